"""A model's files, found or fetched and digested, and what they say about it; without torch."""
