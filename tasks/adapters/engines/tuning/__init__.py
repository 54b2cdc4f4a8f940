"""Settings that were measured on a machine: ranks for the trials, and what was kept of them."""
