"""A real server: infinity, with a small model. `make served` installs it in a folder of its own (35 MB) and runs this."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tasks.adapters.served.row_isolation import embed_batch
from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.served_model import ServedModel
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job
from tests.builders.kitestring import text_of
from tests.builders.models import HIDDEN, make_tiny_model
from tests.servers.s3 import free_port

LIBRARY = os.environ.get("KITESTRING_INFINITY", "")  # folder of its packages; torch and the libraries of models are this environment's
SECONDS = 180
pytestmark = [pytest.mark.skipif(not LIBRARY, reason="make served"), pytest.mark.timeout(600)]


@contextmanager
def infinity(model: Path, port: int, log: Path) -> Iterator[str]:
    """The server's URL, once it is up."""
    command = [
        sys.executable,
        "-c",
        "from infinity_emb.cli import cli; cli()",
        "v2",
        "--model-id",
        str(model),
        "--served-model-name",
        "tiny",
        "--device",
        "cpu",
        "--engine",
        "torch",
    ]
    options = ["--host", "127.0.0.1", "--port", str(port)]
    quick = {"INFINITY_BETTERTRANSFORMER": "false", "INFINITY_MODEL_WARMUP": "false", "PYTHONPATH": LIBRARY}
    offline = {**quick, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
    with log.open("w") as said, subprocess.Popen([*command, *options], env={**os.environ, **offline}, stdout=said, stderr=said) as process:
        try:
            while not _is_up(url):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)
            yield url
        finally:
            process.kill()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_real_server_gives_the_librarys_vectors_and_another_model_of_the_same_name_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    texts, port = [text_of(row) for row in range(100)], free_port()
    with infinity(tiny_model, port, tmp_path / "log") as url:
        encoder = cast("ServedEncoder", parse_job({"encoder": {"kind": "served", "url": url, "model": "tiny"}}).encoder)
        model = ServedModel(encoder)
        outcome = embed_batch(model, texts[: model.most_rows], HIDDEN) if model.facts() else None
        pinned = model.facts().server
        model.close()
    assert outcome
    assert not outcome.refused
    exact = SentenceTransformer(str(tiny_model), device="cpu").encode(texts[: len(outcome.vectors)], normalize_embeddings=True)
    assert (outcome.vectors * exact).sum(axis=1).min() > 0.9999
    with infinity(make_tiny_model(tmp_path / "other", seed=99), port, tmp_path / "log"), pytest.raises(BadInput, match="another model"):
        ServedModel(encoder, pinned=pinned).facts()
    assert np.isfinite(outcome.vectors).all()
