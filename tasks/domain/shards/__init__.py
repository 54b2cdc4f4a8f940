"""Shards and what becomes of them: spans, seals, amendments, duplicates, removals, and where each is in a checkpoint."""
