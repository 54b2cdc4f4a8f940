"""Encoders on a model server: the three supported protocols, and the handling of busy, failing and changed servers."""
