"""Estimates of a run's time, storage and cost, from a sample of its rows and the rates of earlier runs."""
