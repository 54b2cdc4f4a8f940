"""The stages of a run (plan, encode, load, verify, report) as Prefect tasks, one flat file for each."""
