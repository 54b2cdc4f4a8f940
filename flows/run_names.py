"""Names of runs in the Prefect UI: the user's name, or corpus and time instead of a name that Prefect generated."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from prefect.context import FlowRunContext

LOWERCASE = re.compile(r"[a-z]+")
# The run form generates names of stars, such as sigma75-virginis; server and client generate names of animals, such as stoic-bison.
STAR = re.compile(
    r"(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon|phi|chi|psi|omega)"
    r"[0-9]*(?:-[a-z]+)+"
)


def named(action: str = "") -> Callable[[], str]:
    """Return a flow's `flow_run_name`. `action`: what the flow does, unless it embeds the corpus."""

    def name() -> str:
        context = FlowRunContext.get()
        assert context is not None  # Prefect calls it within the run
        current = context.flow_run.name if context.flow_run else ""
        if current and not made_up(current):
            return current
        parameters = context.parameters or {}
        label = "dry run" if parameters.get("dry_run") else action
        return " ".join(filter(None, [_subject(parameters), label, f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"]))

    return name


def made_up(name: str) -> bool:
    """Return whether Prefect generated a run's name."""
    words = name.split("-")
    return STAR.fullmatch(name) is not None or (len(words) == 2 and _animals().issuperset(words))


def _subject(parameters: Mapping[str, Any]) -> str:
    job = parameters.get("job")
    overridden = (parameters.get("overrides") or {}).get("corpus")
    return str(overridden or getattr(job, "corpus", "") or parameters.get("job_file", ""))


@cache
def _animals() -> frozenset[str]:
    """Return the words of the library with which Prefect generates names."""
    files = (file for file in resources.files("coolname.data").iterdir() if file.name.endswith(".txt"))
    return frozenset(word for file in files for word in LOWERCASE.findall(file.read_text(encoding="utf-8")))
