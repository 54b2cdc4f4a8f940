"""Folders that are more than their files: tables with a log, and the output of Spark streams."""
