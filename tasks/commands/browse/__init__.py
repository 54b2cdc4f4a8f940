"""`kitestring browse`: a page, and an HTTP API, over what a job has made."""
