"""Finds vectors of earlier shards by the digest of their content."""
