"""Drives the hosts of a cluster from the flow's process, independent of the distributed engine."""
