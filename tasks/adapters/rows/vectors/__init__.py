"""Forms of vectors in rows, parts and collections: sparse vectors, and types that a server rounds."""
