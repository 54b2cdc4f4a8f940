"""Typed access to the checkpoint of a corpus: parts, seals, ledger, promotions, reports. Its layout: tasks.domain.shards.layout."""
