"""Sources of rows: one file for each kind of source, and a registry."""
