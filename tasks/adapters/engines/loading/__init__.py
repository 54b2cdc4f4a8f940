"""Loading of sealed shards into the collection by hosts."""
