"""The store of a checkpoint: immutable objects, put-if-absent. A folder, S3, or memory."""
