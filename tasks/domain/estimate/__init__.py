"""Estimates of a run: ranges, rates, storage sizes, time and cost."""
