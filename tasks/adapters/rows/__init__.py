"""Rows on their way to the encoder and the collection, in one Arrow form for all sources."""
