"""Shards and their records: spans, seals, amendments, duplicates, removals, and their keys in the checkpoint."""
