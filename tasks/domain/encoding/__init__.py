"""Encoding between the coordinator and its ranks: messages, piece sizes, crash attribution, tuning results."""
