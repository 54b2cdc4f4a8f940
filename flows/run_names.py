"""What runs are called in the Prefect UI: as somebody called them, or by their corpus and time where Prefect made a name up."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from prefect.context import FlowRunContext

LOWERCASE = re.compile(r"[a-z]+")
# The run form makes up names of stars, such as sigma75-virginis; a server and a client those of animals, such as stoic-bison.
STAR = re.compile(
    r"(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon|phi|chi|psi|omega)"
    r"[0-9]*(?:-[a-z]+)+"
)


def named(what: str = "") -> Callable[[], str]:
    """A flow's `flow_run_name`. `what`: of the flow, where its runs do not embed the corpus."""

    def name() -> str:
        context = FlowRunContext.get()
        assert context is not None  # Prefect asks within the run
        given = context.flow_run.name if context.flow_run else ""
        if given and not made_up(given):
            return given
        parameters = context.parameters or {}
        doing = "dry run" if parameters.get("dry_run") else what
        return " ".join(filter(None, [_subject(parameters), doing, f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"]))

    return name


def made_up(name: str) -> bool:
    """Whether Prefect, and no person, called a run so."""
    words = name.split("-")
    return STAR.fullmatch(name) is not None or (len(words) == 2 and _animals().issuperset(words))


def _subject(parameters: Mapping[str, Any]) -> str:
    job = parameters.get("job")
    overridden = (parameters.get("overrides") or {}).get("corpus")
    return str(overridden or getattr(job, "corpus", "") or parameters.get("job_file", ""))


@cache
def _animals() -> frozenset[str]:
    """The words of the library by which Prefect makes names."""
    files = (file for file in resources.files("coolname.data").iterdir() if file.name.endswith(".txt"))
    return frozenset(word for file in files for word in LOWERCASE.findall(file.read_text(encoding="utf-8")))
