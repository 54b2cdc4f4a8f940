"""A rank from its start until all ranks agree on the encoder and its settings."""
