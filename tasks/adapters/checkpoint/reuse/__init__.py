"""Vectors that earlier shards hold, found by the digest of what they were made of."""
