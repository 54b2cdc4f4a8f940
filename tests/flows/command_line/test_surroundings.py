"""The command where it runs: beside files of our packages' names, without a home, on a terminal of another time, with a server that is down."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import kitestring_entry
import pytest
import yaml

from tests.builders.kitestring import Command, make_job, write_rows
from tests.builders.kitestring import Kitestring as Folder

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
SCRIPT = Path(sys.executable).with_name("kitestring")
NAMELESS = 54_321
KEEPS = "dac_override,dac_read_search"  # so that it may read the checkout, which is root's


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> Path:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 30)
    return Folder(folder=tmp_path, env={}).job(make_job(tmp_path, tiny_model, compute__processes=1))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """pytest's own are below one that nobody else may enter."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


def command(folder: Path, *arguments: object, before: tuple[str, ...] = (), **env: str | None) -> Command:
    """The console script, as a user has it on the path: without a Prefect server of the tests'."""
    told = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHON"))}
    settings = {name: value for name, value in {**told, "PREFECT_HOME": str(folder / "prefect"), **env}.items() if value is not None}
    run = [*before, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(run, cwd=folder, env=settings, capture_output=True, text=True, timeout=240, check=False, errors="replace")
    return Command(code=done.returncode, out=done.stdout, err=done.stderr)


def test_a_run_does_not_mind_files_of_our_packages_names(job: Path, tmp_path: Path) -> None:
    """celery and invoke want a `tasks.py`; every process of a run is started in its folder."""
    for name in ("tasks.py", "flows.py"):
        (tmp_path / name).write_text("raise SystemExit('this is not the module that you want')\n")
    done = command(tmp_path, "run", job, "--json")
    assert done.code == 0, done.err
    assert done.json["rows"]["loaded"] == 30


@pytest.mark.parametrize("file", ["flows.py", "tasks.py", "flows/__init__.py"])
def test_a_module_that_is_found_in_place_of_ours_is_told_by_its_path_and_not_run(tmp_path: Path, file: str) -> None:
    theirs = tmp_path / "lib" / file
    theirs.parent.mkdir(parents=True)
    theirs.write_text("import a_module_that_nobody_has\n")
    (name, _, _) = file.replace("/", ".").partition(".")
    wrong = f"{theirs} shadows Kitestring's package '{name}': remove its folder from PYTHONPATH, or run in another folder"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
    run = [sys.executable, "-P", kitestring_entry.__file__, "status", "job.yaml"]
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {wrong}\n")


def test_the_console_script_and_every_deployment_look_first_whose_packages_come_first() -> None:
    root = Path(__file__).parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"kitestring": "kitestring_entry:main"}
    assert Path(kitestring_entry.__file__).is_relative_to(root / "infra" / "entry")
    steps = [step for file in (root / "deployments").glob("*.yaml") for step in yaml.safe_load(file.read_text()).get("pull", ())]
    assert {"kitestring_entry.check_packages": {}} in steps
    kitestring_entry.check_packages()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user without a name")
def test_a_user_without_a_name_and_a_home_may_run_a_job(open_folder: Path, tiny_model: Path) -> None:
    """As in a container that is given an arbitrary user id."""
    model = shutil.copytree(tiny_model, open_folder / "model")
    write_rows(open_folder / "rows" / "a.parquet", 0, 30)
    theirs = Folder(folder=open_folder, env={}).job(make_job(open_folder, model, compute__processes=1))
    for path in [open_folder, *open_folder.rglob("*")]:
        os.chown(path, NAMELESS, NAMELESS)
    become = ("setpriv", f"--reuid={NAMELESS}", f"--regid={NAMELESS}", "--clear-groups")
    keeps = (f"--inh-caps=+{KEEPS.replace(',', ',+')}", f"--ambient-caps=+{KEEPS.replace(',', ',+')}")
    nothing = {"HOME": None, "PREFECT_HOME": None, "USER": None, "LOGNAME": None}
    done = command(open_folder, "run", theirs, "--json", before=(*become, *keeps), **nothing, TMPDIR=str(open_folder))
    assert done.code == 0, done.err
    assert "note: this user has no home folder" in done.err
    assert not list(open_folder.glob("kitestring-*"))


def test_a_terminal_that_knows_ascii_alone_is_written_to(job: Path, tmp_path: Path) -> None:
    done = command(tmp_path, "status", job, "--set", "corpus=none", PYTHONIOENCODING="ascii")
    assert done.code == 3, done.err
    for how in ((), ("--json",)):
        missing = command(tmp_path, "status", job, "--set", "source.uri=/größe", *how, PYTHONIOENCODING="ascii")
        assert missing.code == 2
        assert "'/gr\\xf6\\xdfe'" in missing.err
        assert "Traceback" not in missing.err


class _Refuses(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"exception_message": "Unauthorized"}')

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    """A server that lets nobody in."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()


def test_a_prefect_server_that_is_down_is_told_in_a_line(job: Path, tmp_path: Path) -> None:
    done = command(tmp_path, "run", job, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.code == 2
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "http://127.0.0.1:9/api cannot be used (ConnectError" in line
    assert "unset PREFECT_API_URL" in line
    assert "Traceback" not in done.err


def test_a_prefect_server_that_lets_nobody_in_is_told_in_a_line(job: Path, tmp_path: Path, refusing: str) -> None:
    done = command(tmp_path, "run", job, PREFECT_API_URL=refusing)
    assert done.code == 2
    assert f"the Prefect server at {refusing} denies access to this command (401): set PREFECT_API_AUTH_STRING" in done.err
    assert "Traceback" not in done.err
