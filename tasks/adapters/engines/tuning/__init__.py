"""Settings measured on a machine: the ranks of a trial, and the stored results."""
