"""The processes of an encoder on this host: torchrun and its ranks, started, watched and ended; devices, cores, scratch folders."""
