"""What the stages of one run share: context and plan, progress, and the artifacts and events for Prefect."""
