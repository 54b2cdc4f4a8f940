"""The model libraries. One file for each encoder, and its helpers."""
