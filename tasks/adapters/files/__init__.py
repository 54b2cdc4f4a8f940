"""Files of a source, wherever they are: listed in one order, opened, checked against the planned version."""
