"""Values and rules: standard library and pydantic only, no I/O and no SDK. The seams to the outside are in ports.py."""
