"""The garbage collector is out of the way while importing, and back afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys

from tasks.adapters.garbage import importing


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


def test_a_process_that_leaves_its_garbage_still_does_what_it_was_told_to_do_at_exit() -> None:
    code = "import atexit; from tasks.adapters.garbage import leave_at_exit; leave_at_exit(); atexit.register(print, 'last words')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "last words\n"
