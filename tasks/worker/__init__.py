"""The processes under torchrun: the only home of torch, sentence-transformers and open_clip."""
