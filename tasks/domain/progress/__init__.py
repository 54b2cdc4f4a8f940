"""A run at one moment: what those see that watch it, here or elsewhere."""
