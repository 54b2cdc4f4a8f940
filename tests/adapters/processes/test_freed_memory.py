"""A run returns what it frees, also what Arrow has freed."""

from __future__ import annotations

import sys
from subprocess import run

import pyarrow as pa
import pytest

from tasks.adapters.processes.freed_memory import return_freed_memory
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.run import context

ASKED = """
import ctypes, threading
class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo
from tasks.adapters.processes.freed_memory import return_freed_memory
return_freed_memory()
import pyarrow as pa
def work():
    for size in (20, 8, 24, 12):  # in MiB
        kept = pa.allocate_buffer(size << 20, memory_pool=pa.system_memory_pool())
        kept, held = None, bytearray(size << 20)
for thread in [threading.Thread(target=work) for _ in range(3)]:
    thread.start()
    thread.join()
info = libc.mallinfo2()
print(info.fordblks + info.hblkhd)
"""


def test_large_blocks_of_threads_that_are_over_are_not_kept() -> None:
    if sys.platform != "linux" or not hasattr(__import__("ctypes").CDLL(None), "mallinfo2"):
        pytest.skip("the C library does not say what it keeps")
    kept = run([sys.executable, "-c", ASKED], capture_output=True, check=True, text=True).stdout
    assert int(kept) < 8 << 20


def test_a_run_does_so_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    called = list[str]()
    monkeypatch.setattr(context, "return_freed_memory", lambda: called.append("freed"))

    def refuse(_job: Job) -> None:
        called.append("inspected")
        raise BadInput("no such source")

    monkeypatch.setattr(context, "inspect_job", refuse)
    job = Job.model_validate(
        {
            "corpus": "pydocs",
            "source": {"kind": "parquet", "uri": "/nowhere", "id": "id", "text": ["text"]},
            "encoder": {"kind": "sentence-transformers", "model": "/nowhere"},
            "checkpoint": "memory://freed",
            "target": {"uri": "memory://freed", "collection": "pydocs"},
        }
    )
    with pytest.raises(BadInput, match="no such source"), context.open_run(job):
        pass
    assert called == ["freed", "inspected"]
    return_freed_memory()
    assert pa.default_memory_pool().backend_name == "system"
