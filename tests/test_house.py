"""The floor plan holds: imports point one way, files stay small, nothing of one machine or one person is in here."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LONGEST = 350
TOP_LEVEL = {"flows", "tasks", "deployments", "infra", "tests", "pyproject.toml", "README.md"}
TOP_LEVEL |= {"Makefile", "CHANGELOG.md", "LICENSE", "constraints.txt"}
MOST = 16  # files in a folder, but for __init__
WITHOUT_COUNTERPART = {"builders", "servers", "formats", "chaos", "cluster", "benchmarks"}  # of tests' folders
FROM_A_TEST = re.compile(r"^\s*(?:from|import) tests\b.*\b(?:test_\w+|conftest)\b.*$", re.MULTILINE)

SUSPICIOUS = {
    "an AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "a token": r"\b(ghp|gho|github_pat|hf|xox[abp]|pnu|sk)[_-][A-Za-z0-9_-]{20,}",
    "a private key": r"BEGIN [A-Z ]*PRIVATE KEY-",
    "a password in a URL": r"://[^\s/:@'\"{}$<]+:[^\s/:@'\"{}$<]+@(?!127\.0\.0\.1|localhost)\w",
    "a folder of one person's machine": r"(?<![\w:/.])/(home|root|Users|work)/\w",
    "the address of a package index": r"--(extra-)?inde[x]-url|--find-link[s]|PIP_INDEX[_]URL",
}
REFUSED_IN_TESTS = {"a password in a URL"}  # tests show that such a URL is refused, or kept out of messages


def run_python(code: str) -> str:
    """What a fresh interpreter in the checkout prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_after(imported: str) -> set[str]:
    """The top-level packages that are loaded once a module is imported."""
    return set(run_python(f"import sys, {imported}; print('\\n'.join(name.partition('.')[0] for name in sys.modules))").split())


def files_of_ours() -> Iterator[Path]:
    """Every text file of the checkout, but not what git ignores."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).suffix not in {".png", ".jpg", ".parquet"} and (ROOT / name).is_file():
            yield ROOT / name


def test_the_top_level_holds_six_rooms_and_what_every_project_has() -> None:
    there = {path.relative_to(ROOT).parts[0] for path in files_of_ours()}
    assert {name for name in there if not name.startswith(".")} <= TOP_LEVEL


def test_imports_point_one_way() -> None:
    lint = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_importing_the_flow_loads_no_model_library() -> None:
    loaded = modules_after("flows.embed")
    assert "prefect" in loaded
    assert not loaded & {"torch", "transformers", "sentence_transformers", "open_clip"}


def test_importing_a_flow_loads_pymilvus() -> None:
    """It closes all handlers of logging when it is imported; with those of a flow that is under way it waits for ever."""
    for flow in ("audit", "embed", "repair", "replay", "retry"):
        assert "pymilvus" in modules_after(f"flows.{flow}")


def test_importing_the_worker_loads_no_prefect() -> None:
    loaded = modules_after("tasks.worker.__main__")
    assert "tasks" in loaded
    assert not loaded & {"prefect", "flows"}


def test_importing_an_engine_loads_neither_prefect_nor_a_model_library() -> None:
    """Another machine imports it to encode for a flow that runs elsewhere."""
    loaded = modules_after("tasks.adapters.engines.registry")
    assert "tasks" in loaded
    assert not loaded & {"prefect", "flows", "torch", "transformers", "sentence_transformers", "open_clip", "pymilvus"}


@pytest.mark.parametrize("folder", ["flows", "tasks"])
def test_a_file_holds_one_idea(folder: str) -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert lengths
    assert not {path: lines for path, lines in lengths.items() if lines > LONGEST}


@pytest.mark.parametrize("tree", ["flows", "tasks", "tests/flows", "tests/builders"])
def test_a_folder_can_be_taken_in_at_a_glance(tree: str) -> None:
    sizes = Counter(path.parent for path in (ROOT / tree).rglob("*.py") if path.name != "__init__.py")
    assert sizes
    assert not {f"{folder.relative_to(ROOT)}: {size}" for folder, size in sizes.items() if size > MOST}


def test_every_module_of_tasks_has_a_room() -> None:
    assert [path.name for path in (ROOT / "tasks").glob("*.py")] == ["__init__.py"]


def test_the_tests_mirror_the_tree() -> None:
    """Those of flows are grouped by what they test: all of them run the same few flows."""
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")} - {Path()}
    mirrored = {folder for folder in folders if folder.parts[0] not in WITHOUT_COUNTERPART | {"flows"}}
    assert mirrored
    assert not {str(folder) for folder in mirrored if not list((ROOT / "tasks" / folder).glob("*.py"))}


def test_no_test_imports_from_another() -> None:
    """What two of them need is in `tests/builders`, or in a module of their folder that is no test; fixtures come by themselves."""
    found = {path.relative_to(ROOT): FROM_A_TEST.findall(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert not {f"{path}: {line.strip()}" for path, lines in found.items() for line in lines}


def test_no_file_holds_a_credential_or_names_a_machine() -> None:
    files = list(files_of_ours())
    if not files:
        pytest.skip("not a git checkout")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {what}"
        for path in files
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        for what, pattern in SUSPICIOUS.items()
        if re.search(pattern, line) and not (path.is_relative_to(ROOT / "tests") and what in REFUSED_IN_TESTS)
    ]
    assert not found


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("key = 'AKIA" + "ABCDEFGHIJKLMNOP'", "an AWS key"),
        ("postgresql://prefect" + ":hunter2@db/prefect", "a password in a URL"),
        ("see /" + "home/someone/notes", "a folder of one person's machine"),
        ("token: hf_" + "a" * 30, "a token"),
    ],
)
def test_the_search_for_them_finds_them(line: str, what: str) -> None:
    assert re.search(SUSPICIOUS[what], line)


def test_every_dependency_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", pin) for pin in pins)
    wanted = run_python(
        "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; "
        "print('\\n'.join([*p['dependencies'], *sum(p['optional-dependencies'].values(), [])]))"
    )
    names = {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-") for line in wanted.splitlines()}
    assert names <= {pin.partition("==")[0] for pin in pins}


def test_what_the_image_copies_is_there() -> None:
    copies = [line.split()[1:-1] for line in (ROOT / "infra" / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    assert copies
    assert all((ROOT / source).exists() for sources in copies for source in sources)


def test_the_containers_run_commands_that_exist() -> None:
    """No container is started by these tests, but what they would start is what `tests/flows` starts without them."""
    compose = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
    (pod,) = yaml.safe_load_all((ROOT / "infra" / "kubernetes" / "base" / "worker.yaml").read_text())
    worker = ["prefect", "worker", "start", "--pool", "kitestring", "--type", "process"]
    assert compose["services"]["worker"]["command"].split() == worker
    assert pod["spec"]["template"]["spec"]["containers"][0]["args"] == worker
    assert set(compose["services"]["worker"]["depends_on"]) <= set(compose["services"])


def test_nobody_is_told_to_install_a_name_that_is_not_ours_on_the_public_index() -> None:
    """Whoever registered it would run code on our users' machines: what is installed is this folder."""
    files = list(files_of_ours())
    if not files:
        pytest.skip("not a git checkout")
    wanted = re.compile(r"(pip|uv|pipx)[^\n]* (install|run|--from)[^\n]*['\"\s]kite" + r"string\b")
    assert not [f"{path.relative_to(ROOT)}" for path in files if wanted.search(path.read_text(errors="replace"))]
