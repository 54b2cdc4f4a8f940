"""How long a run will take, from a sample of its rows and from what earlier runs measured."""
