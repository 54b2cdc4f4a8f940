"""The Prefect server that a command starts for itself, and where one that the user named is."""
