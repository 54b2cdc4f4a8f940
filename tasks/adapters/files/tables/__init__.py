"""Folders with a log of their valid files: lakehouse tables, and the output of Spark streams."""
