"""The demo's corpus: documentation of the installed Python's standard library.

Python sources are parsed as syntax trees, so no module with side effects runs. C modules have
no source: their documentation comes from importing a fixed list of safe modules.
"""

from __future__ import annotations

import ast
import errno
import importlib
import inspect
import os
import platform
import re
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.domain.errors import BadInput

PassageKind = Literal["module", "class", "function", "method"]
Size = Literal["quick", "default", "full"]

QUESTIONS = (
    "how do I parse a date from a string",
    "run a command and capture its output",
    "find files by pattern in all subfolders",
)
# Tests, tools, tables of codecs, and retired modules.
SKIPPED = frozenset(
    """__hello__ __phello__ __pycache__ antigravity config dist-packages distutils encodings ensurepip idlelib lib2to3 ntpath
    pydoc_data site-packages sre_compile sre_constants sre_parse test tests this turtledemo xxsubtype""".split()  # noqa: SIM905
)
# Modules whose contents are imported under another name. Other private modules are skipped.
PUBLIC = {
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
    "asyncio.": "asyncio",
    "concurrent.futures.": "concurrent.futures",
    "email._parseaddr": "email.utils",
    "genericpath": "os.path",
    "pathlib._local": "pathlib",
    "posixpath": "os.path",
    "tomllib._parser": "tomllib",
    "unittest.case": "unittest",
    "zipfile._path": "zipfile",
}
# Public modules implemented in C, wholly or partly, that are safe to import.
IN_C = """array asyncio atexit binascii bisect builtins bz2 cmath codecs collections contextvars csv datetime decimal faulthandler
    fcntl functools gc grp hashlib heapq io itertools json lzma marshal math mmap operator os pickle pwd queue random re resource
    select signal socket sqlite3 ssl string struct sys syslog termios threading time tracemalloc types unicodedata warnings weakref
    zlib zoneinfo""".split()  # noqa: SIM905
HOMES = {"builtins": "io", "os": "posix", "types": "builtins"}  # other values of a member's __module__
# Popular modules: about 500 passages.
POPULAR = frozenset(
    """argparse bisect collections copy csv dataclasses datetime functools getpass glob heapq html itertools json os.path pathlib
    random re secrets shutil string subprocess tempfile textwrap time uuid""".split()  # noqa: SIM905
)
# Rarely used modules; with their submodules they are a third of the library.
RARE = frozenset(
    """bdb imaplib importlib mailbox nntplib pdb pickletools poplib pydoc symtable telnetlib tkinter turtle wsgiref xml
    xmlrpc""".split()  # noqa: SIM905
)
DOC_LENGTH = 500  # characters: the later paragraphs of a long docstring blur its vector
FORM = 1  # incremented whenever the passages of the same Python would change
FILES = ("a-b", "c-d", "e-i", "j-o", "p-r", "s-z")
ROW_GROUP = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One documented object of the library."""

    id: str  # qualified name: datetime.datetime.strptime, str.split
    text: str  # name, signature, and the beginning of the docstring
    module: str
    kind: PassageKind


def passages() -> Iterator[Passage]:
    """Yield every documented module, class, function and method, each id once, in an order fixed for this Python."""
    seen: set[str] = set()
    for extract in (_from_sources, _from_c):
        for passage in extract():
            if passage.id not in seen:
                seen.add(passage.id)
                yield passage


def write_corpus(folder: Path, size: Size = "default") -> Path:
    """Write the passages as Parquet files with the columns id, text, module and kind.

    A second call with the same Python and size reuses them; all files appear atomically.

    Args:
        folder: the folder of corpora; created if missing.
        size: quick has about 500 passages of popular modules, default about 4,800, full all of them.

    Returns:
        The subfolder of `folder` with the files.

    Raises:
        BadInput: the folder cannot be written.
    """
    corpus = folder / f"python-{platform.python_version()}-{size}-{FORM}"
    try:
        if not corpus.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".corpus-") as scratch:
                written = Path(scratch, "files")
                _write_files(written, [p for p in passages() if _belongs(p, size)])
                _publish(written, corpus)
    except OSError as error:
        raise BadInput(f"the demo's corpus cannot be written to {folder}: {error.strerror or error}; give another folder") from error
    return corpus


def _belongs(passage: Passage, size: Size) -> bool:
    if size == "quick":
        return passage.module in POPULAR
    return size == "full" or passage.module.split(".")[0] not in RARE


def _write_files(folder: Path, chosen: list[Passage]) -> None:
    folder.mkdir()
    files: dict[str, list[Passage]] = {}
    for passage in chosen:
        initial = passage.module[0]
        files.setdefault(next((name for name in FILES if name[0] <= initial <= name[-1]), FILES[0]), []).append(passage)
    for name, group in sorted(files.items()):
        table = pa.Table.from_pylist([asdict(passage) for passage in group])
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=ROW_GROUP, compression="zstd")


def _publish(written: Path, corpus: Path) -> None:
    """Move the finished files into place atomically; if another process was first, its files stay."""
    try:
        written.rename(corpus)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _passage(name: str, signature: str, doc: str, module: str, kind: PassageKind) -> Passage:
    clean = re.sub(r" at 0x[0-9a-fA-F]+", "", inspect.cleandoc(doc)).encode(errors="replace").decode()
    return Passage(id=name, text=f"{name}{signature}\n\n{_beginning(clean)}", module=module, kind=kind)


def _beginning(doc: str) -> str:
    """Return the first paragraph and as many more as fit."""
    text, *others = doc.split("\n\n")
    for paragraph in others:
        if len(text) + len(paragraph) > DOC_LENGTH:
            break
        text += f"\n\n{paragraph}"
    return text.strip()


def _from_sources() -> Iterator[Passage]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(_source_files(root)):
        module = _public_name(path.relative_to(root))
        if module is not None:
            tree = ast.parse(path.read_bytes())
            yield from _documented(tree, module, "", "module", module)
            yield from _members(tree.body, module, module, inside_class=False)


def _source_files(root: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not SKIPPED & {name, name.split("-")[0]}]
        yield from (Path(folder, name) for name in files if name.endswith(".py") and name[:-3] not in SKIPPED)


def _public_name(path: Path) -> str | None:
    """The name under which users import this file's definitions; None for a private module."""
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    for private, public in PUBLIC.items():
        if name == private or (private.endswith(".") and name.startswith(private)):
            return public
    return name if name == "__future__" or not any(part.startswith("_") for part in name.split(".")) else None


def _members(body: list[ast.stmt], owner: str, module: str, *, inside_class: bool) -> Iterator[Passage]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):  # platform-specific definitions, or replacements of a missing C module
            inner = [*node.body, *node.orelse, *(line for h in getattr(node, "handlers", ()) for line in h.body)]
            yield from _members(inner, owner, module, inside_class=inside_class)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            name = f"{owner}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _documented(node, name, _class_signature(node), "class", module)
                yield from _members(node.body, name, module, inside_class=True)
            else:
                yield from _documented(node, name, _signature(node, bound=inside_class), "method" if inside_class else "function", module)


def _documented(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str, signature: str, kind: PassageKind, module: str
) -> Iterator[Passage]:
    doc = ast.get_docstring(node)
    if doc and doc.strip():
        yield _passage(name, signature, doc, module, kind)


def _class_signature(node: ast.ClassDef) -> str:
    made_by = (m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__")
    return next((_signature(method, bound=True) for method in made_by), "")


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> str:
    written = ast.unparse(node.args)
    if bound:
        written = re.sub(r"^(self|cls|mcls|metacls)(, /)?(, |$)", "", written)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({written}){returns}"


def _from_c() -> Iterator[Passage]:
    for name in IN_C:
        with suppress(ImportError):  # Python may be built without sqlite3 or lzma
            yield from _module_in_c(importlib.import_module(name), name, {name, HOMES.get(name, name)})


def _module_in_c(module: ModuleType, name: str, homes: set[str]) -> Iterator[Passage]:
    prefix = "" if name == "builtins" else f"{name}."
    if module.__doc__:
        yield _passage(name, "", module.__doc__, name, "module")
    for short, member in sorted(vars(module).items()):
        is_ours = str(getattr(member, "__module__", "")).lstrip("_") in homes
        if short.startswith("_") or not is_ours:
            continue
        if inspect.isclass(member):
            yield from _class_in_c(member, f"{prefix}{short}", name)
        elif inspect.isroutine(member) and member.__doc__:
            yield _passage(f"{prefix}{short}", _signature_in_c(member), member.__doc__, name, "function")


def _class_in_c(owner: type, name: str, module: str) -> Iterator[Passage]:
    if isinstance(owner.__doc__, str):  # types.FunctionType and a few others have a descriptor there
        yield _passage(name, _signature_in_c(owner), owner.__doc__, module, "class")
    for short, raw in sorted(vars(owner).items()):
        member = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
        if not short.startswith("_") and (inspect.isroutine(member) or inspect.isdatadescriptor(member)) and member.__doc__:
            yield _passage(f"{name}.{short}", _signature_in_c(member), member.__doc__, module, "method")


def _signature_in_c(member: object) -> str:
    """Return the signature, or "" if C code has none."""
    with suppress(ValueError, TypeError, AttributeError):  # AttributeError: in 3.13, for a default such as EPOLLIN
        signature = inspect.signature(cast("Callable[..., object]", member))
        named = [p for p in signature.parameters.values() if p.name not in ("self", "cls", "type")]
        return str(signature.replace(parameters=named))
    return ""
