"""The private Prefect server of a command, and the lookup of a user's configured server."""
