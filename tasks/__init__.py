"""Everything beneath the flows. Data goes one way, imports too: commands, stages, run, worker, adapters, domain; each knows only those after it."""
