"""The job file: what a user may set, and what is said where it does not fit."""
