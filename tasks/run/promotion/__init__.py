"""Promotion: check whether the alias may move to a new collection, and move it."""
