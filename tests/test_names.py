"""The search for names with two meanings finds them, and finds none in the tree as it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.names import ROOT, files_twice, names_twice, public_names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("class A: ...\ndef b(): ...\nC = 1\nd: int = 2\n", {"A", "b", "C", "d"}),
        ("E, (F, *G) = 1, (2, 3)\n", {"E", "F", "G"}),
        ("if True:\n    H = 1\nelse:\n    I = 2\ntry:\n    J = 1\nexcept OSError:\n    K = 2\n", {"H", "I", "J", "K"}),
        ("from a import b\nimport c\n_private = 1\nT = TypeVar('T')\nos.environ['x'] = '1'\n", set()),
        ("class A:\n    def method(self): ...\n    FIELD = 1\ndef f():\n    local = 1\n", {"A", "f"}),
    ],
)
def test_what_a_module_defines_is_found(source: str, names: set[str]) -> None:
    assert set(public_names(ast.parse(source))) == names


def test_a_name_and_a_file_that_come_twice_are_found(tmp_path: Path) -> None:
    for path, source in {
        "flows/run.py": "Rate = 1\ndef main(): ...\n",
        "tasks/a/run.py": "class Rate: ...\nSUFFIXES = ()\n",
        "tasks/b/other.py": "SUFFIXES = ()\ndef main(): ...\n",
        "tasks/a/__init__.py": "",
        "tasks/b/__init__.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    assert names_twice(tmp_path) == {
        "Rate": ["flows/run.py", "tasks/a/run.py"],
        "SUFFIXES": ["tasks/a/run.py", "tasks/b/other.py"],  # one meaning among sources alone
    }
    assert files_twice(tmp_path) == {"run": ["flows/run.py", "tasks/a/run.py"]}


def test_each_name_has_one_meaning() -> None:
    assert names_twice(ROOT) == {}


def test_each_file_name_stands_in_one_room() -> None:
    assert files_twice(ROOT) == {}
