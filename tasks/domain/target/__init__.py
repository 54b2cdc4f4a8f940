"""A collection: its spec and fields, its proof, its promotions."""
