"""Where rows come from. One file for each kind of source, and a line in registry.py."""
