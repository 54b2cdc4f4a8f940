"""The stages of a run as Prefect tasks, in the order plan, encode, load, deduplicate, remove stale rows, verify, promote, report."""
