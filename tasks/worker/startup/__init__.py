"""Start-up of a rank, until all ranks agree on the encoder and its settings."""
