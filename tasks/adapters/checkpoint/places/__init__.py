"""Locations of a corpus' files, and the roots by which shards are named."""
