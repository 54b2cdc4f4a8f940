"""The token of a server: from the environment of the process that sends requests, or a Secret block, and nowhere else."""

from __future__ import annotations

import os

from tasks.adapters.served.served_encoder import TOKEN_VARIABLE, ServedEncoder
from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import ReadSecret

_readers: list[ReadSecret] = []


def read_secrets_with(read: ReadSecret) -> None:
    """How Secret blocks are read in this process: the adapters do not know Prefect, and other hosts have none."""
    _readers[:] = [read]


def token_of(encoder: ServedEncoder) -> str | None:
    """The token, if there is one.

    Raises:
        BadInput: there is no such block, or this process reads none and has no variable instead.
    """
    block = encoder.token_block
    if block is None or not _readers:
        token = os.environ.get(TOKEN_VARIABLE)
        if block and not token:
            raise BadInput(f"encoder.token_block: this host reads no Secret blocks: set {TOKEN_VARIABLE} in its environment")
        return token
    return _readers[0]("encoder.token_block", block)
