"""Values and rules: standard library and pydantic only, no I/O and no SDK."""
