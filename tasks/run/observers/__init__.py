"""Observers of a run besides Prefect: its own checkpoint, a metrics and trace collector, a data catalogue."""
