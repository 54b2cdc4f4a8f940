"""Text files in bounded memory: encodings, lines, CSV rows and items of JSON arrays."""
