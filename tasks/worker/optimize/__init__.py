"""What makes a model faster and must not change its vectors: precision, batch size, kernels, weights, OpenVINO."""
