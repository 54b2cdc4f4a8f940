"""Tables of a lakehouse, read through their own libraries."""
