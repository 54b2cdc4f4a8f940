"""Snapshots of a run in progress, for its own terminal and for other machines."""
