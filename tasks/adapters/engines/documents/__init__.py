"""Documents that are split into chunks: the chunks for the encoders, and the handling of documents with failed chunks."""
