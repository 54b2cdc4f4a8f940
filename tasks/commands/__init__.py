"""The commands other than runs: plan, status, verify, diff, search, promote, gc. No Prefect tasks."""
