"""Settings for reading and splitting texts."""
