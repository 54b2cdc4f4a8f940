"""Hosts put sealed shards into the collection."""
