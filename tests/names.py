"""One meaning for one name: `python -m tests.names`, which `make check` runs.

Over the syntax trees of `flows` and `tasks`: no public name (class, function, constant or type alias of a module) is defined in two
modules, and no two files have the same name. Methods are not concerned: those of a port are the same everywhere by design.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES_IN_MANY_ROOMS = {"__init__", "__main__", "registry"}
ONE_MEANING = {  # names that truly mean one thing wherever they stand, and the rooms in which they do
    "main": ("", "runs the program"),
    "log": ("", "the module's logger"),
    **dict.fromkeys(("run", "search", "status", "read_job"), ("flows/", "what a command does, and what Python calls the same")),
    "SUFFIXES": ("tasks/adapters/sources/", "of the files that a kind of source reads"),
    "BATCH_ROWS": ("tasks/adapters/sources/", "the most rows that a kind of source gives at once"),
    "BATCH_BYTES": ("tasks/adapters/sources/", "the same in bytes"),
    "HEAD": ("tasks/adapters/sources/", "bytes at the beginning of a file that tell its columns"),
    "GPU_ROWS": ("tasks/worker/encoders/", "the most rows of a batch on a GPU"),
    "CPU_ROWS": ("tasks/worker/encoders/", "the same on a CPU"),
}


def modules(root: Path) -> Iterator[Path]:
    """Every module of the packages, in order."""
    for package in ("flows", "tasks"):
        yield from sorted((root / package).rglob("*.py"))


def public_names(tree: ast.Module) -> Iterator[str]:
    """The public names that a module defines at its top level, under `if` and `try` as well; what it imports is not among them."""
    for node in _statements(tree.body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [] if _is_type_variable(node.value) else [name for target in node.targets for name in _assigned(target)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def _assigned(target: ast.expr) -> Iterator[str]:
    return (each.id for each in ast.walk(target) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))


def _is_type_variable(value: ast.expr) -> bool:
    """A placeholder: it means nothing by itself."""
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in {"TypeVar", "ParamSpec"}


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for inner in (node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])):
                yield from _statements(inner)
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body)


def names_twice(root: Path) -> dict[str, list[str]]:
    """Each public name that several modules define, and those modules."""
    defined: dict[str, set[str]] = defaultdict(set)
    for path in modules(root):
        for name in public_names(ast.parse(path.read_text(encoding="utf-8"))):
            defined[name].add(str(path.relative_to(root)))
    return {name: sorted(where) for name, where in sorted(defined.items()) if len(where) > 1 and not _means_one_thing(name, where)}


def _means_one_thing(name: str, where: set[str]) -> bool:
    return name in ONE_MEANING and all(path.startswith(ONE_MEANING[name][0]) for path in where)


def files_twice(root: Path) -> dict[str, list[str]]:
    """Each file name that stands in several rooms, and where."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in modules(root):
        found[path.stem].append(str(path.relative_to(root)))
    return {name: where for name, where in sorted(found.items()) if len(where) > 1 and name not in FILES_IN_MANY_ROOMS}


def main() -> int:
    """Print what comes twice; 1 if anything does."""
    found = names_twice(ROOT) | files_twice(ROOT)
    sys.stdout.writelines(f"{name}: {', '.join(where)}\n" for name, where in found.items())
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
