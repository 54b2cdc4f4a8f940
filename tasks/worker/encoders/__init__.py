"""The model libraries. One file for each encoder, and what it needs."""
