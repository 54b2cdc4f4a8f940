"""Files of a source in any location: listed in a fixed order, opened, checked against the planned version."""
