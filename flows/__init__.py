"""Kitestring's flows and its command line: they name the stages and wire them."""
