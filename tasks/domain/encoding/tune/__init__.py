"""Tuning of settings on a job's own rows: the trials and their order, the best settings, and the scaling with ranks."""
