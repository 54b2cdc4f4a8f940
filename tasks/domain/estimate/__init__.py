"""Ranges, rates and sizes, and what a run will take."""
