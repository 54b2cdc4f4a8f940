"""What is sealed, loaded, damaged or no longer planned, and loading a sealed shard."""
