"""The garbage collector is out of the way while importing, and back afterwards."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.adapters.processes.gc_control import importing


def test_nothing_is_collected_while_importing_and_everything_is_as_it_was_after() -> None:
    assert gc.isenabled()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


LEAVING = """
import atexit, sys, threading, time
from tasks.adapters.processes.gc_control import leaving

class Remains:
    def __del__(self):
        print("taken apart")

with leaving():
    remains = Remains()
    atexit.register(print, "last words")
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    sys.stdout.write("first words, ")
    {end}
"""


@pytest.mark.parametrize(("end", "code"), [("sys.exit()", 0), ("sys.exit(3)", 3), ("raise SystemExit(True)", 1)])
def test_a_process_ends_with_its_code_when_all_is_done_and_takes_nothing_apart(end: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING.format(end=end)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "first words, thread\nlast words\n", "")


@pytest.mark.parametrize(("end", "said"), [("sys.exit('no')", "no\n"), ("1 / 0", "ZeroDivisionError")])
def test_what_is_no_code_ends_the_process_as_ever(end: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING.format(end=end)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "taken apart" in done.stdout


def test_what_nothing_holds_is_not_lost_without_a_word() -> None:
    code = "import sys; from tasks.adapters.processes.gc_control import leaving\nwith leaving():\n    sys.stdout.write('words')\n    sys.exit()"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
    assert done.returncode == 120
    assert "No space left" in done.stderr
