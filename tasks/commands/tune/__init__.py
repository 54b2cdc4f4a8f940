"""`kitestring tune`: measures settings on a job's own rows and this machine, and writes nothing but what `--apply` keeps."""
