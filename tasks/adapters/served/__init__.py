"""Models that run on a server: the three protocols that such servers speak, and what may come between a text and its vector."""
