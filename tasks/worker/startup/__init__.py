"""A rank from its first moment until all ranks agree on what they run."""
