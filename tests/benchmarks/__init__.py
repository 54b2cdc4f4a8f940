"""Measured comparisons: `python -m tests.benchmarks NAME ...`, or `make bench`. See README.md in this folder."""
