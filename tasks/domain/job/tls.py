"""Certificates for a server with a private certificate authority, or that requires client certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from tasks.domain.job.ui_schema import Nothing
from tasks.domain.strict import Strict

File = Annotated[str, Field(title="file")]
Block = Annotated[str, Field(title="name")]


class Tls(Strict):
    """Certificates and key, each a PEM file on the machine that runs the flow, or a Prefect Secret block with its text."""

    model_config = ConfigDict(title="TLS")

    ca: File | Nothing = Field(None, title="CA", description="PEM file of the authority that signed the server's certificate.")
    cert: File | Nothing = Field(None, title="Certificate", description="PEM file of the client certificate, for servers that require one.")
    key: File | Nothing = Field(None, title="Key", description="PEM file of the client certificate's private key.")
    ca_block: Block | Nothing = Field(None, title="CA block", description="Name of a Prefect Secret block with the text of `ca`.")
    cert_block: Block | Nothing = Field(
        None, title="Certificate block", description="Name of a Prefect Secret block with the text of `cert`."
    )
    key_block: Block | Nothing = Field(None, title="Key block", description="Name of a Prefect Secret block with the text of `key`.")

    @property
    def places(self) -> Iterator[tuple[str, str | None, str | None]]:
        """(name, file, block) of each."""
        yield from (("ca", self.ca, self.ca_block), ("cert", self.cert, self.cert_block), ("key", self.key, self.key_block))

    @model_validator(mode="after")
    def _each_once_and_in_pairs(self) -> Tls:
        if twice := [name for name, path, block in self.places if path and block]:
            raise ValueError(f"{twice[0]} and {twice[0]}_block are alternatives: give one of them")
        is_set = {name: bool(path or block) for name, path, block in self.places}
        if is_set["cert"] != is_set["key"]:
            present, missing = ("cert", "key") if is_set["cert"] else ("key", "cert")
            raise ValueError(f"{present} also needs {missing}")
        return self
