"""A device has one encoder at a time, and is free again whatever dies."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tasks.adapters.processes.device_locks import Devices
from tasks.adapters.processes.hardware import Launch, device_names
from tasks.adapters.processes.process_guard import start_guarded
from tasks.domain.errors import BadInput


def nobody_is_told(_what: str) -> None:
    return


def is_free(folder: Path, name: str = "cpu") -> bool:
    devices = Devices([name], folders=[folder])
    try:
        return devices.take(nobody_is_told, lambda: True)
    finally:
        devices.release()


def test_who_waits_is_told_for_whom_and_gets_it_then(tmp_path: Path) -> None:
    holder, waiter = Devices(["cpu"], corpus="first", folders=[tmp_path]), Devices(["cpu"], corpus="second", folders=[tmp_path])
    assert holder.take(nobody_is_told, lambda: False)
    told: list[str] = []
    waiting = threading.Event()

    def tell(what: str) -> None:
        told.append(what)
        waiting.set()

    thread = threading.Thread(target=waiter.take, args=(tell, lambda: False))
    thread.start()
    assert waiting.wait(10)
    assert told[0] == f"the encoder on cpu: process {os.getpid()} has it for corpus 'first'"
    holder.release()
    thread.join(10)
    assert told[-1] == ""
    assert not is_free(tmp_path)
    waiter.release()
    assert is_free(tmp_path)


def test_a_run_that_ends_while_it_waits_gets_nothing(tmp_path: Path) -> None:
    holder = Devices(["a", "b"], folders=[tmp_path])
    assert holder.take(nobody_is_told, lambda: False)
    assert not Devices(["b", "c"], folders=[tmp_path]).take(nobody_is_told, lambda: True)
    assert is_free(tmp_path, "c")
    holder.release()


def test_two_runs_on_two_devices_do_not_wait(tmp_path: Path) -> None:
    one, other = Devices(["gpu-0"], folders=[tmp_path]), Devices(["gpu-1"], folders=[tmp_path])
    assert one.take(nobody_is_told, lambda: True)
    assert other.take(nobody_is_told, lambda: True)


def test_a_guard_keeps_the_device_until_its_ranks_are_gone(tmp_path: Path) -> None:
    devices = Devices(["cpu"], folders=[tmp_path])
    assert devices.take(nobody_is_told, lambda: True)
    guard = start_guarded([sys.executable, "-c", "import time; time.sleep(60)"], held=devices.fds)
    devices.release()
    assert not is_free(tmp_path)
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait(10)
    assert is_free(tmp_path)


def test_kill_9_of_a_run_frees_its_device(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from tasks.adapters.processes.device_locks import Devices\nfrom tasks.adapters.processes.process_guard import start_guarded\n"
        f"devices = Devices(['cpu'], folders=[Path({str(tmp_path)!r})])\n"
        "devices.take(lambda what: None, lambda: True)\n"
        "guard = start_guarded([sys.executable, '-c', 'import time; time.sleep(60)'], held=devices.fds)\n"
        "print(guard.pid, flush=True)\ntime.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert int(run.stdout.readline())
    assert not is_free(tmp_path)
    run.kill()
    run.wait(10)
    waiter = Devices(["cpu"], folders=[tmp_path])
    waited = threading.Event()
    threading.Thread(target=lambda: waiter.take(nobody_is_told, lambda: False) and waited.set(), daemon=True).start()
    assert waited.wait(10)
    waiter.release()


def test_a_lock_of_another_user_is_taken_though_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse_to_write(path: str, flags: int, *mode: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    (tmp_path / "kitestring-cpu.lock").write_text("")
    holder = Devices(["cpu"], corpus="first", folders=[tmp_path])
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse_to_write)
        assert holder.take(nobody_is_told, lambda: False)
    assert not is_free(tmp_path)
    holder.release()
    assert is_free(tmp_path)


def test_a_lock_that_another_user_made_names_who_has_it_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sticky folder the kernel refuses to create it anew (fs.protected_regular), and lets it be written."""
    real = os.open

    def refuse_to_create(path: str, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    lock = tmp_path / "kitestring-cpu.lock"
    lock.write_text("")
    monkeypatch.setattr(os, "open", refuse_to_create)
    holder = Devices(["cpu"], corpus="first", folders=[tmp_path])
    assert holder.take(nobody_is_told, lambda: False)
    assert json.loads(lock.read_text())["corpus"] == "first"
    holder.release()
    assert not lock.read_text()  # else it would name this run while one has it that cannot write


def test_a_lock_that_cannot_be_opened_is_named_with_the_cure(tmp_path: Path) -> None:
    lock = tmp_path / "kitestring-cpu.lock"
    lock.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=rf"{lock} cannot be opened .*remove it, or set compute\.exclusive to false"):
        Devices(["cpu"], folders=[tmp_path]).take(nobody_is_told, lambda: False)
    lock.unlink()
    lock.mkdir()
    with pytest.raises(BadInput, match=str(lock)):
        Devices(["cpu"], folders=[tmp_path]).take(nobody_is_told, lambda: False)
    with pytest.raises(BadInput, match="no lock file can be created in /nowhere"):
        Devices(["cpu"], folders=[Path("/nowhere")]).take(nobody_is_told, lambda: False)


def test_gpus_are_told_apart_by_their_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index means another card where CUDA_VISIBLE_DEVICES says so."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-aaa)'\necho 'GPU 1: NVIDIA H100 (UUID: GPU-bbb)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    two = Launch(ranks=2, threads=1, device="cuda")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_names(two) == ["GPU-aaa", "GPU-bbb"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert device_names(two) == ["GPU-bbb"]
    assert device_names(Launch(ranks=1, threads=1, device="cpu")) == ["cpu"]
