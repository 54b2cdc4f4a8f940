"""What the command line asks for beside runs: plan, status, verify, diff, search, promote, gc. No Prefect task is in here."""
