"""Targets of any kind: opening, loading part by part, verification."""
