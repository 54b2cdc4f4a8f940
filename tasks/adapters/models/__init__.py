"""Locates, downloads and digests a model's files, and reads their metadata; without torch."""
