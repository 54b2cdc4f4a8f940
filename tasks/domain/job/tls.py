"""Certificates for a server whose authority is private, or that asks its clients for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from tasks.domain.job.ui_schema import Nothing
from tasks.domain.strict import Strict

File = Annotated[str, Field(title="file")]
Block = Annotated[str, Field(title="name")]


class Tls(Strict):
    """Each is a PEM file on the machine that runs the flow, or a Prefect Secret block with its text."""

    model_config = ConfigDict(title="TLS")

    ca: File | Nothing = Field(None, title="CA", description="PEM file of the authority that signed the server's certificate.")
    cert: File | Nothing = Field(None, title="Certificate", description="PEM file of the client certificate, for servers that ask for one.")
    key: File | Nothing = Field(None, title="Key", description="PEM file of the client certificate's private key.")
    ca_block: Block | Nothing = Field(None, title="CA block", description="Name of a Prefect Secret block with the text of `ca`.")
    cert_block: Block | Nothing = Field(
        None, title="Certificate block", description="Name of a Prefect Secret block with the text of `cert`."
    )
    key_block: Block | Nothing = Field(None, title="Key block", description="Name of a Prefect Secret block with the text of `key`.")

    @property
    def places(self) -> Iterator[tuple[str, str | None, str | None]]:
        """The name, the file and the block of each."""
        yield from (("ca", self.ca, self.ca_block), ("cert", self.cert, self.cert_block), ("key", self.key, self.key_block))

    @model_validator(mode="after")
    def _each_once_and_in_pairs(self) -> Tls:
        if twice := [name for name, path, block in self.places if path and block]:
            raise ValueError(f"{twice[0]} and {twice[0]}_block say the same: give one of them")
        given = {name: bool(path or block) for name, path, block in self.places}
        if given["cert"] != given["key"]:
            has, lacks = ("cert", "key") if given["cert"] else ("key", "cert")
            raise ValueError(f"{has} needs {lacks} beside it")
        return self
