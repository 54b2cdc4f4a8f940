"""What Prefect and torch do not promise: that it is where we look for it. What is used of Milvus' clients: tests/adapters/milvus.

Each is used in one file, and where it is gone the public way serves: a Secret block is then refused by name, a server's last log
lines may come late, weights stay as they are, and ranks wait for each other at the end.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Beyond these, run this file: what fails here is looked for elsewhere by then.
SEEN_IN = {"prefect": ((3, 8, 8), (3, 8, 99)), "torch": ((2, 6, 0), (2, 99, 0))}
USED_IN = {
    r"_block_document_name": "flows/parameters.py",
    r"APILogWorker": "tasks/adapters/prefect/private_server.py",
    r"torch\.ops\.mkldnn": "tasks/worker/optimize/onednn_weights.py",
    r"get_context\(\"fork\"\)\.Event": "tasks/worker/agent.py",
}


@pytest.mark.parametrize("name", SEEN_IN)
def test_it_was_looked_for_in_the_version_that_is_installed(name: str) -> None:
    first, last = SEEN_IN[name]
    installed = tuple(int(number) for number in re.findall(r"\d+", version(name))[:3])
    assert first <= installed <= last, f"see whether {name} {version(name)} still has what this file looks for, and widen SEEN_IN"


@pytest.mark.parametrize(("pattern", "file"), USED_IN.items())
def test_it_is_used_in_one_file(pattern: str, file: str) -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("flows", "tasks")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(pattern, path.read_text())
    }
    assert found == {file}


def test_a_block_knows_the_name_that_it_is_saved_under() -> None:
    from prefect.blocks.system import Secret  # noqa: PLC0415 - takes seconds

    assert Secret(value="x")._block_document_name is None


def test_prefect_sends_its_log_lines_by_a_worker_that_can_be_drained() -> None:
    from prefect.logging import handlers  # noqa: PLC0415 - takes seconds

    assert callable(handlers.APILogWorker.drain_all)
    assert "timeout" in inspect.signature(handlers.APILogWorker.drain_all).parameters


def test_torch_packs_weights_by_the_names_that_are_looked_for() -> None:
    import torch  # noqa: PLC0415 - takes seconds

    assert torch.ops.mkldnn._reorder_linear_weight
    assert torch.ops.mkldnn._linear_pointwise


def test_torchrun_has_its_forked_ranks_wait_for_an_event_of_the_context() -> None:
    """`tasks.worker.agent` puts another class in its place; were it made otherwise, a rank that is killed at its end would hold the others."""
    from torch.distributed.elastic.multiprocessing import api  # noqa: PLC0415 - takes seconds

    assert ".Event()" in inspect.getsource(api.MultiprocessContext)
