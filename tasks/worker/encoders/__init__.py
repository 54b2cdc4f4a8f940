"""The encoders, one file for each model library, and their helpers."""
