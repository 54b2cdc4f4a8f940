"""Whether the alias may move to a new collection, and moving it."""
