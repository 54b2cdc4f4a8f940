"""The KServe v2 protocol over HTTP, with its extension for binary tensors, as Triton serves it.

Not by `tritonclient[http]`: it is built on gevent, whose objects belong to the thread that made them, and brings 20 packages for what is
a JSON document with bytes behind it. Dynamic batching is the server's own: it wants many requests in flight, and has them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import orjson
from pydantic import JsonValue

from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.server_answers import Described, Faulty, as_vectors
from tasks.adapters.served.server_connection import ServerConnection, document_of
from tasks.domain.errors import BadInput

JSON_LENGTH = "Inference-Header-Content-Length"  # bytes of the document; tensors follow it
FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


class TritonApi:
    """See `tasks.adapters.served.server_answers.ServedApi`."""

    whole: Mapping[str, JsonValue] = {}

    def __init__(self, encoder: ServedEncoder, connection: ServerConnection) -> None:
        self._path, self._connection, self._wanted = f"/v2/models/{encoder.model}", connection, encoder.output
        self._input: dict[str, Any] = {}
        self._output = ""

    def describe(self) -> Described:
        if self._path.endswith("/"):
            raise BadInput("encoder.model: name the model, as the server's model repository does")
        told = self._connection.get(self._path)
        self._input = self._chosen(told, "inputs", {"BYTES"}, None)
        output = self._chosen(told, "outputs", set(FLOATS), self._wanted)
        self._output = output["name"]
        most = self._config().get("max_batch_size")
        kept = {"name": told.get("name"), "versions": told.get("versions"), "platform": told.get("platform"), "output": output}
        return Described(told={name: value for name, value in kept.items() if value is not None}, most_rows=most or None)

    def _config(self) -> dict[str, Any]:
        """Triton's own; other servers of the protocol have none."""
        try:
            found = self._connection.get(f"{self._path}/config")
        except BadInput:
            return {}
        return found if isinstance(found, dict) else {}

    def _chosen(self, told: Any, side: str, types: set[str], wanted: str | None) -> dict[str, Any]:
        try:
            all_of = {str(tensor["name"]): tensor for tensor in told[side]}
        except (KeyError, TypeError) as error:
            raise BadInput(f"encoder.url: {self._connection.url}{self._path} describes no model: is encoder.api triton?") from error
        fit = [name for name, tensor in all_of.items() if tensor.get("datatype") in types and wanted in {None, name}]
        if len(fit) != 1:
            listed = ", ".join(f"{name} {tensor.get('datatype')}" for name, tensor in all_of.items())
            cure = "set encoder.output to one of them" if side == "outputs" and not wanted else "one is needed"
            raise BadInput(f"encoder.model: {len(fit)} {side} of {self._path} are {' or '.join(sorted(types))} ({listed}): {cure}")
        found: dict[str, Any] = all_of[fit[0]]
        return found

    def embed(self, texts: list[str], parameters: Mapping[str, JsonValue]) -> npt.NDArray[np.float32]:
        data = b"".join(struct.pack("<I", len(raw)) + raw for raw in (text.encode() for text in texts))
        shape = [len(texts), *[1] * (len(self._input["shape"]) - 1)]
        given = {"name": self._input["name"], "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
        asked = {"name": self._output, "parameters": {"binary_data": True}}
        head = orjson.dumps({"inputs": [given], "outputs": [asked], **({"parameters": dict(parameters)} if parameters else {})})
        headers = {JSON_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        return _vectors(self._connection.send(f"{self._path}/infer", head + data, headers))


def _vectors(answer: httpx.Response) -> npt.NDArray[np.float32]:
    length = answer.headers.get(JSON_LENGTH)
    content = answer.content
    document = document_of(content[: int(length)] if length else content)
    try:
        (output,) = document["outputs"]
        kind, shape, size = FLOATS[output["datatype"]], output["shape"], output.get("parameters", {}).get("binary_data_size")
        if size is None:
            return as_vectors(np.asarray(output["data"], dtype=np.float32).reshape(shape))
        found = np.frombuffer(content[int(length or 0) :][:size], kind).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise Faulty("the server's answer has no tensor of floats where it should be, or not the whole of it") from error
    return as_vectors(found.reshape(len(found), -1) if found.ndim > 2 and found.size == shape[0] * shape[-1] else found)
