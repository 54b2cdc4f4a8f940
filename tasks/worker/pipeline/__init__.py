"""A rank at work: one piece is read ahead, one is encoded, one is written."""
