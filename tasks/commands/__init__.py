"""Commands other than runs: plan, status, diff, search, browse, evaluate, promote, gc, init, tune. No Prefect tasks."""
