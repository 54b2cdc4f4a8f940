"""The checkpoint of a corpus as values: parts, seals, the ledger, promotions, reports. Its layout: tasks.domain.shards.layout."""
