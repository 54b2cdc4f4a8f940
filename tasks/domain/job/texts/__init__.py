"""How texts are read and split."""
