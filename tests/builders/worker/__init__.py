"""What tests of the worker share: ranks without a model, a coordinator without torchrun, pictures, texts."""
