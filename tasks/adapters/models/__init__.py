"""A model's files, found or fetched and digested, and their metadata; without torch."""
