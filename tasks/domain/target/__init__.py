"""What is known of a collection: its spec and fields, its proof, its promotions."""
