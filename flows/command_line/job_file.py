"""The job file, and settings over it, as the command line takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.job.parse import override_document, parse_job


def read_job(path: Path, settings: list[str] | None) -> Job:
    """A job file with settings over it.

    Raises:
        BadInput: not there, not YAML, or not a job.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"there is no job file '{path}'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the job file '{path}' cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise BadInput(f"the job file '{path}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise BadInput(f"the job file '{path}' is empty or no mapping: it needs keys such as corpus, source and target")
    return parse_job(override_document(document, dict(_setting(text) for text in settings or [])))


def _setting(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise BadInput(f"--set {text}: write it as path.to.key=value")
    try:
        return path.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise BadInput(f"--set {text}: what follows the = is not YAML: put it in quotes, or close its brackets") from error
