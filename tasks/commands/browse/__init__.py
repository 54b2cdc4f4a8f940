"""`kitestring browse`: a search page and an HTTP API for a job's collections."""
