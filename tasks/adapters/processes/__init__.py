"""The encoder's processes on this host: starts, supervises and ends torchrun and its ranks; devices, cores, scratch folders."""
