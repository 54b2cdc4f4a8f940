"""Who encodes groups of shards, and where: from a source's rows to sealed parts."""
