"""Real parts for the tests: each module below starts one and stops it."""

import faulthandler
import gc
import os

import pytest

from tests.servers.session import remove_folders

pytest.register_assert_rewrite("tests.builders")
pytest_plugins = [
    "tests.servers.s3",
    "tests.servers.faulty_s3",
    "tests.servers.milvus",
    "tests.servers.narrow_milvus",
    "tests.servers.prefect",
    "tests.servers.ray",
    "tests.servers.dask",
    "tests.builders.models",
    "tests.builders.more_kinds.registered",
    "tests.builders.kitestring",
    "tests.builders.inprocess",
]


SUITE_SECONDS = 50 * 60


def pytest_sessionstart(session: pytest.Session) -> None:
    """A test that not even its own time limit ends: every thread's stack is printed, and the suite ends.

    One watch for all tests and not pytest's own, which starts a thread of its own for each.
    """
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        seen = os.dup(2)
    faulthandler.dump_traceback_later(SUITE_SECONDS, exit=True, file=seen)


def pytest_collection_finish() -> None:
    """What imports made stays to the end; gone through again and again, its million objects took a second every few tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Told all, the process ends as the command does (`tasks.adapters.processes.gc_control.leaving`): nothing is taken apart (`tests.servers.session`)."""

    def leave() -> None:
        session.config.get_terminal_writer().flush()
        remove_folders()
        os._exit(exitstatus)

    session.config.add_cleanup(leave)
