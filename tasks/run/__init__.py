"""What the stages of one run share: its context and plan, its progress, and what Prefect is shown of it."""
