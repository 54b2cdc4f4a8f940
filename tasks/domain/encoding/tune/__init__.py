"""Measuring settings on a job's own rows: what is tried, in which order, what is best, and how it scales."""
