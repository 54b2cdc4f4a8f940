"""The KServe v2 protocol over HTTP, with the extension for binary tensors, as Triton implements it.

Does not use `tritonclient[http]`: it is built on gevent, whose objects belong to the thread that created them, and needs 20 packages for
a JSON document followed by bytes. Dynamic batching is left to the server, which gets the concurrent requests it needs for it.
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

JSON_LENGTH = "Inference-Header-Content-Length"  # bytes of the JSON document; tensors follow it
FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


class TritonApi:
    """See `tasks.adapters.served.server_answers.ServedApi`."""

    whole: Mapping[str, JsonValue] = {}

    def __init__(self, encoder: ServedEncoder, connection: ServerConnection) -> None:
        self._path, self._connection, self._chosen_output = f"/v2/models/{encoder.model}", connection, encoder.output
        self._input: dict[str, Any] = {}
        self._output = ""

    def describe(self) -> Described:
        if self._path.endswith("/"):
            raise BadInput("encoder.model: set it to the model's name in the server's model repository")
        metadata = self._connection.get(self._path)
        self._input = self._tensor(metadata, "inputs", {"BYTES"}, None)
        output = self._tensor(metadata, "outputs", set(FLOATS), self._chosen_output)
        self._output = output["name"]
        most = self._config().get("max_batch_size")
        properties = {name: metadata.get(name) for name in ("name", "versions", "platform")} | {"output": output}
        return Described(properties={name: value for name, value in properties.items() if value is not None}, most_rows=most or None)

    def _config(self) -> dict[str, Any]:
        """The model's configuration; Triton's extension, which other servers of the protocol lack."""
        try:
            config = self._connection.get(f"{self._path}/config")
        except BadInput:
            return {}
        return config if isinstance(config, dict) else {}

    def _tensor(self, metadata: Any, side: str, types: set[str], chosen: str | None) -> dict[str, Any]:
        try:
            tensors = {str(tensor["name"]): tensor for tensor in metadata[side]}
        except (KeyError, TypeError) as error:
            raise BadInput(f"encoder.url: {self._connection.url}{self._path} describes no model: is encoder.api triton?") from error
        fit = [name for name, tensor in tensors.items() if tensor.get("datatype") in types and chosen in {None, name}]
        if len(fit) != 1:
            listed = ", ".join(f"{name} {tensor.get('datatype')}" for name, tensor in tensors.items())
            remedy = "set encoder.output to one of them" if side == "outputs" and not chosen else "one is needed"
            raise BadInput(f"encoder.model: {len(fit)} {side} of {self._path} are {' or '.join(sorted(types))} ({listed}): {remedy}")
        tensor: dict[str, Any] = tensors[fit[0]]
        return tensor

    def embed(self, texts: list[str], parameters: Mapping[str, JsonValue]) -> npt.NDArray[np.float32]:
        data = b"".join(struct.pack("<I", len(raw)) + raw for raw in (text.encode() for text in texts))
        shape = [len(texts), *[1] * (len(self._input["shape"]) - 1)]
        inputs = {"name": self._input["name"], "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
        outputs = {"name": self._output, "parameters": {"binary_data": True}}
        head = orjson.dumps({"inputs": [inputs], "outputs": [outputs], **({"parameters": dict(parameters)} if parameters else {})})
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
        vectors = np.frombuffer(content[int(length or 0) :][:size], kind).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise Faulty("the server's answer has no complete tensor of floats in the expected place") from error
    return as_vectors(vectors.reshape(len(vectors), -1) if vectors.ndim > 2 and vectors.size == shape[0] * shape[-1] else vectors)
