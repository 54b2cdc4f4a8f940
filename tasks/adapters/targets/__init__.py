"""A target whatever holds it: opened by its kind, loaded part by part, verified."""
