"""Reads a server's token, only from the environment of the process that sends requests or from a Secret block."""

from __future__ import annotations

import os

from tasks.adapters.served.served_encoder import TOKEN_VARIABLE, ServedEncoder
from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import ReadSecret

_readers: list[ReadSecret] = []


def read_secrets_with(read: ReadSecret) -> None:
    """Set how this process reads Secret blocks: the adapters do not import Prefect, and other hosts have no access to it."""
    _readers[:] = [read]


def token_of(encoder: ServedEncoder) -> str | None:
    """The token, or None.

    Raises:
        BadInput: the block does not exist, or this process cannot read blocks and the variable is not set.
    """
    block = encoder.token_block
    if block is None or not _readers:
        token = os.environ.get(TOKEN_VARIABLE)
        if block and not token:
            raise BadInput(f"encoder.token_block: this host cannot read Secret blocks: set {TOKEN_VARIABLE} in its environment")
        return token
    return _readers[0]("encoder.token_block", block)
