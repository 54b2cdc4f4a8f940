"""Generates the Python code with which an application embeds a question by the job's server."""

from __future__ import annotations

from tasks.adapters.models.model_files import LocatedModel
from tasks.adapters.served.served_encoder import TOKEN_VARIABLE, ServedEncoder


def served_question(encoder: ServedEncoder, located: LocatedModel) -> str:  # noqa: ARG001 - the signature of all kinds
    """Code for httpx that sends one request per question."""
    url = encoder.url.rstrip("/")
    text = f"{encoder.query_prompt!r} + words" if encoder.query_prompt else "words"
    parameters = encoder.parameters if encoder.query_parameters is None else encoder.query_parameters
    lines = {"openai": _openai, "tei": _tei, "triton": _triton}[encoder.api](
        encoder, url, text, f", **{parameters!r}" if parameters else ""
    )
    cut = f"[: {encoder.truncate_dim}]" if encoder.truncate_dim else ""
    return "\n".join(
        [
            "import os",
            "",
            "import httpx",
            "import numpy as np",
            "",
            f'token = os.environ.get("{TOKEN_VARIABLE}")',
            'client = httpx.Client(headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=60)',
            "",
            "def embed(words):",
            *(f"    {line}" for line in lines),
            f"    vector = np.array(values, dtype=np.float32){cut}",
            "    return vector / np.linalg.norm(vector)" if encoder.normalize else "    return vector",
        ]
    )


def _openai(encoder: ServedEncoder, url: str, text: str, more: str) -> list[str]:
    return [
        f'body = {{"model": {encoder.model!r}, "input": [{text}], "encoding_format": "float"{more}}}',
        f'answer = client.post("{url}/embeddings", json=body).raise_for_status().json()',
        'values = answer["data"][0]["embedding"]',
    ]


def _tei(encoder: ServedEncoder, url: str, text: str, more: str) -> list[str]:
    body = f'{{"inputs": [{text}], "normalize": {encoder.normalize}, "truncate": True{more}}}'
    return [f'(values,) = client.post("{url}/embed", json={body}).raise_for_status().json()']


def _triton(encoder: ServedEncoder, url: str, text: str, more: str) -> list[str]:
    model = f"{url}/v2/models/{encoder.model}"
    chosen = f' and output["name"] == {encoder.output!r}' if encoder.output else ""
    fields = f', "parameters": {{{more.removeprefix(", ")}}}' if more else ""
    return [
        f'model = client.get("{model}").raise_for_status().json()',
        '(text,) = [tensor for tensor in model["inputs"] if tensor["datatype"] == "BYTES"]',
        f'(name,) = [output["name"] for output in model["outputs"] if output["datatype"].startswith("FP"){chosen}]',
        f'tensor = {{"name": text["name"], "shape": [1] * len(text["shape"]), "datatype": "BYTES", "data": [{text}]}}',
        f'body = {{"inputs": [tensor], "outputs": [{{"name": name}}]{fields}}}',
        f'answer = client.post("{model}/infer", json=body).raise_for_status().json()',
        'values = answer["outputs"][0]["data"]',
    ]
