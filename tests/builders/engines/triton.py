"""A real Triton with a small model, as a process of its own. `make served` installs it.

It is the server that nvidia-pytriton brings in its wheel. Its Python backend runs the library in a process that embeds Python, for which it
wants libpython as a shared library.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.adapters.processes.process_guard import die_with_parent
from tests.builders.models import HIDDEN

TRITON = os.environ.get("KITESTRING_TRITON", "")  # folder of nvidia-pytriton and numpy 1
SECONDS = 300  # to start: most of it are imports
STOP_SECONDS = 30
MODEL = "tiny"

TRITON_MODEL = """
import site, sys
site.addsitedir({packages!r})  # the embedded Python reads no PYTHONPATH
sys.path.insert(0, {numpy!r})  # numpy 1, by whose arrays the backend goes: it reads those of numpy 2 with another stride
import numpy as np
import triton_python_backend_utils as backend
from sentence_transformers import SentenceTransformer


class TritonPythonModel:
    def initialize(self, args):
        self.model = SentenceTransformer({model!r}, device="cpu")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        texts = [text.decode() for text in backend.get_input_tensor_by_name(request, "text").as_numpy().ravel()]
        return backend.InferenceResponse([backend.Tensor("vector", self.model.encode(texts).astype(np.float32))])
"""
TRITON_CONFIG = f"""
name: "{MODEL}"
backend: "python"
max_batch_size: 32
input [ {{ name: "text", data_type: TYPE_STRING, dims: [ 1 ] }} ]
output [ {{ name: "vector", data_type: TYPE_FP32, dims: [ {HIDDEN} ] }} ]
instance_group [ {{ kind: KIND_CPU, count: 1 }} ]
dynamic_batching {{ }}
"""


@contextmanager
def triton(model: Path, port: int, folder: Path) -> Iterator[dict[str, Any]]:
    """An `encoder` of kind served that asks it, once it is up: its model answers with the library's vectors, and is scaled here."""
    server = Path(TRITON or pytest.skip("make served")) / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "backends" / "python" / "triton_python_backend_stub"
    new = shutil.copy2(server / "python_backend_stubs" / version / stub.name, stub.with_suffix(".new"))
    new.replace(stub)  # not written over: the last server's may be running yet
    code = folder / "repository" / MODEL / "1" / "model.py"
    code.parent.mkdir(parents=True, exist_ok=True)
    code.write_text(TRITON_MODEL.format(numpy=TRITON, packages=sysconfig.get_path("purelib"), model=str(model)))
    (folder / "repository" / MODEL / "config.pbtxt").write_text(TRITON_CONFIG)
    program = [str(server / "bin" / "tritonserver"), "--model-repository", str(folder / "repository")]
    quiet = ["--allow-grpc=false", "--allow-metrics=false", "--http-address", "127.0.0.1", "--http-port", str(port)]
    backend = ["--backend-directory", str(server / "backends")]
    libpython = {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")), "HF_HUB_OFFLINE": "1"}
    with _process([*program, *quiet, *backend], libpython, f"http://127.0.0.1:{port}/v2/models/{MODEL}/ready", folder):
        yield {"kind": "served", "api": "triton", "url": f"http://127.0.0.1:{port}", "model": MODEL}


@contextmanager
def _process(command: list[str], env: Mapping[str, str], ready: str, folder: Path) -> Iterator[None]:
    """A server until the context ends: it and its own processes are gone then."""
    log, end = folder / "log", time.monotonic() + SECONDS
    started: dict[str, Any] = {"env": {**os.environ, **env}, "start_new_session": True, "preexec_fn": die_with_parent}
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said, **started) as process:
        try:
            while not _is_up(ready):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)
            yield
        finally:
            process.terminate()  # so that it removes the memory that it shares with its own
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False
