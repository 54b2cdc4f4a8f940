"""Vectors as rows, parts and collections hold them: sparse ones, and those that a server rounds."""
