"""`kitestring tune`: measure settings on a job's own rows and this machine. Writes only what `--apply` stores."""
