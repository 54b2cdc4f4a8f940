"""The pipeline of a rank: reads the next piece and writes the previous part while it encodes the current piece."""
