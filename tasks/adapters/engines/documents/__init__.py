"""Documents that are split: their chunks on the way to the encoders, and what becomes of a document of which a chunk fails."""
