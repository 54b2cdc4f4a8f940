"""What a run has to say about itself, as values."""
