"""The hosts of a cluster, driven from the flow's process, whichever distributed engine reaches them."""
