"""Sealed, loaded, damaged and unplanned shards, and loading of a sealed shard."""
