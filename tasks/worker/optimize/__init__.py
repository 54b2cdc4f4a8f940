"""Optimisations that keep a model's vectors: precision, batch size, kernels, weights, OpenVINO."""
