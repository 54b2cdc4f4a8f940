"""The job file: its settings and its error messages."""
