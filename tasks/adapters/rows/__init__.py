"""Rows on their way to the encoder and to the collection, in one Arrow form whatever the source."""
