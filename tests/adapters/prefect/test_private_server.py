"""The server that a run brings along where the user has none."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tasks.adapters.prefect.api_settings import configured_api
from tasks.adapters.prefect.private_server import PrivateServer, private_server
from tasks.domain.errors import BadInput, Permanent

pytestmark = pytest.mark.server
ROOT = Path(__file__).parents[3]

HOLDER = """
import sys
from tasks.adapters.prefect.private_server import private_server
with private_server() as server:
    server.wait()
    print(server.api, flush=True)
    sys.stdin.read()
"""

# Refuses, in this process and in the server's, whatever is not the loopback.
ONLY_LOOPBACK = """
import sys
def audit(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple) and args[1][0] not in ("127.0.0.1", "::1", "localhost"):
        print("REACHED OUT", args[1], flush=True)
    if event == "socket.getaddrinfo" and args[0] not in ("127.0.0.1", "::1", "localhost", None):
        print("LOOKED UP", args[0], flush=True)
sys.addaudithook(audit)
"""

FLOW = """
from tasks.adapters.prefect.private_server import private_server
with private_server() as server:
    from prefect import flow, task

    @task
    def three() -> int:
        return 3

    @flow
    def nine() -> int:
        return sum(future.result() for future in [three.submit() for _ in range(3)])

    server.wait()
    print("RESULT", nine(), flush=True)
    server.stop()
    print(server._log.read_text(), flush=True)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One PREFECT_HOME for the module: making its database takes six seconds."""
    return tmp_path_factory.mktemp("prefect-home")


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process with a private server that is up."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    yield process
    process.kill()
    process.communicate(timeout=10)


def processes_of(server: PrivateServer) -> list[psutil.Process]:
    guard = psutil.Process(server._guard.pid)
    return [guard, *guard.children(recursive=True)]


def test_the_server_is_named_in_the_environment_and_gone_at_the_end() -> None:
    with private_server() as server:
        server.wait()
        assert os.environ["PREFECT_API_URL"] == server.api
        assert configured_api() == server.api
        family = processes_of(server)
    assert "PREFECT_API_URL" not in os.environ
    assert len(family) == 2
    assert not psutil.wait_procs(family, timeout=5)[1]


def test_the_server_answers_this_run_alone_whatever_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """An auth string or a key that is meant for another server is not sent to this one, nor asked for."""
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:pass")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:other")
    monkeypatch.setenv("PREFECT_API_KEY", "key")
    with private_server() as server:
        server.wait()
        told = os.environ["PREFECT_API_AUTH_STRING"]
        assert "PREFECT_API_KEY" not in os.environ
        assert ask(server, f"Basic {base64.b64encode(told.encode()).decode()}") == 200
        assert ask(server, None) == 401
        assert ask(server, f"Basic {base64.b64encode(b'admin:pass').decode()}") == 401
    assert os.environ["PREFECT_API_AUTH_STRING"] == "admin:other"
    assert os.environ["PREFECT_API_KEY"] == "key"


def ask(server: PrivateServer, authorization: str | None) -> int:
    headers = {"Authorization": authorization} if authorization else {}
    return httpx.post(f"{server.api}/flows/filter", json={}, headers=headers, trust_env=False).status_code


def test_a_home_that_cannot_be_written_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "file"
    home.write_text("where a folder should be: root may write to any folder")
    monkeypatch.setenv("PREFECT_HOME", str(home / "prefect"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run([sys.executable, "-c", FLOW], capture_output=True, text=True, timeout=120, check=False)
    assert "RESULT 9" in done.stdout, done.stderr


def test_kill_9_of_the_run_leaves_no_server(holder: subprocess.Popen[str]) -> None:
    family = psutil.Process(holder.pid).children(recursive=True)
    os.kill(holder.pid, signal.SIGKILL)
    assert len(family) == 2
    assert not psutil.wait_procs(family, timeout=5)[1]


def test_the_first_run_has_the_database_of_the_home_and_a_second_one_its_own(holder: subprocess.Popen[str], home: Path) -> None:
    assert (home / "prefect.db").exists()
    with private_server() as second:
        second.wait()
        assert (second._folder / "prefect.db").exists()
    assert holder.poll() is None


def test_a_database_that_this_prefect_cannot_open_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / "prefect.db").write_bytes(b"not a database at all" * 100)
    with private_server() as server:
        server.wait()
        assert (server._folder / "prefect.db").exists()
    assert (tmp_path / "prefect.db").read_bytes().startswith(b"not a database")


def test_a_flow_runs_on_it_and_nothing_but_the_loopback_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(ONLY_LOOPBACK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    for ci in ("CI", "GITHUB_ACTIONS", "GITLAB_CI"):  # Prefect is quieter there by itself
        monkeypatch.delenv(ci, raising=False)
    done = subprocess.run([sys.executable, "-c", FLOW], capture_output=True, text=True, timeout=120, check=True)
    assert "RESULT 9" in done.stdout
    assert "REACHED OUT" not in done.stdout
    assert "LOOKED UP" not in done.stdout
    assert "Error" not in done.stderr  # such as log lines that found the server gone


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".env", "PREFECT_API_URL=http://named/api\n"),
        ("prefect.toml", '[api]\nurl = "http://named/api"\n'),
        ("pyproject.toml", '[tool.prefect.api]\nurl = "http://named/api"\n'),
        ("home/profiles.toml", 'active = "team"\n[profiles.team]\nPREFECT_API_URL = "http://named/api"\n'),
    ],
)
def test_a_server_that_the_user_has_named_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    assert configured_api() is None
    (tmp_path / "home").mkdir()
    (tmp_path / file).write_text(content)
    assert configured_api() == "http://named/api"
    monkeypatch.setenv("PREFECT_API_URL", "http://of-the-environment/api")
    assert configured_api() == "http://of-the-environment/api"


def test_prefect_itself_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / "prefect.toml").write_text('[api]\nurl = "http://of-the-folder/api"\n')
    (tmp_path / "profiles.toml").write_text('active = "team"\n[profiles.team]\nPREFECT_API_URL = "http://of-the-profile/api"\n')
    ask = "import prefect.settings; print(prefect.settings.PREFECT_API_URL.value())"
    theirs = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    assert configured_api() == theirs


def test_settings_that_are_not_toml_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / "profiles.toml").write_text("not toml")
    with pytest.raises(BadInput, match=r"profiles\.toml"):
        configured_api()


def test_a_port_that_another_program_has_taken_meanwhile_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What uvicorn writes then is not the last line of its log."""
    bind = "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', {}): address already in use"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("tasks.adapters.prefect.private_server._free_port", lambda: port)
        (tmp_path / "server.log").write_text(f"{bind.format(port)}\nERROR:    Application shutdown failed. Exiting.\n")
        monkeypatch.setattr(PrivateServer, "_start", lambda _server: subprocess.Popen(["true"], stdin=subprocess.PIPE))
        server = PrivateServer(tmp_path, home_database=False)
        server._guard.wait()
        with pytest.raises(Permanent, match=f"ended at its start: another program has just taken port {port}: run the command again"):
            server.wait()
