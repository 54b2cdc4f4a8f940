"""Formatting of results, errors and help for the width of a terminal."""
