"""Sealed, loaded, damaged and unplanned shards, and the loading of a sealed shard."""
