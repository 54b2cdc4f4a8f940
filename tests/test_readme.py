"""The README is short, its links lead somewhere, its jobs are jobs, and what it names exists. Its quick starts: `tests/flows`."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path

import pytest
import yaml

from flows.command_line import answers, cli
from tasks.domain.job.job import Job
from tasks.domain.job.json_schema import job_schema
from tasks.domain.job.parse import parse_job
from tests.builders.readme import README, ROOT, prints, quick_starts

TEXT = README.read_text(encoding="utf-8")
REFERENCE = ROOT / "deployments" / "reference.md"
GLOSSARY = ["seal", "shard", "piece", "part", "rank", "ledger", "quarantine", "mirror", "alias", "checkpoint"]
GLOSSARY += ["fingerprint", "proof", "retained"]


def pages() -> list[Path]:
    """Every Markdown page of the checkout."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [ROOT / name for name in listed.split()] or [README]


def table(heading: str) -> dict[str, str]:
    """First column to second of the table below a heading."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    return dict(rows[1:])


def test_it_is_read_in_a_few_minutes() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 150
    assert not [line for line in lines if len(line) > 130]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))]
    assert not [link for link in links if link and "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_that_is_named_is_there(page: Path) -> None:
    named = set(re.findall(r"`([\w./-]+\.(?:py|yaml|json|jsonl))`", page.read_text(encoding="utf-8")))
    places = {name for name in named if name.startswith(("flows/", "tasks/", "tests/", "deployments/", "infra/"))}
    assert not [name for name in places if not (ROOT / name).exists()]


@pytest.mark.parametrize("start", quick_starts(), ids=lambda start: start.title)
def test_a_quick_start_has_a_job_of_eight_lines(start: object) -> None:
    job = start.job  # type: ignore[attr-defined]
    assert len(job.splitlines()) == 8
    assert isinstance(parse_job(yaml.safe_load(job)), Job)


def test_there_are_three_quick_starts() -> None:
    assert [start.title.partition(": ")[2] for start in quick_starts()] == ["this machine", "S3 and a Milvus server", "a GPU host"]


def test_the_glossary_explains_each_term_in_a_line() -> None:
    found = table("Glossary")
    assert set(found) == set(GLOSSARY)
    assert all(found.values())
    assert list(found) == sorted(found)


def test_the_settings_that_it_names_exist() -> None:
    reference = REFERENCE.read_text(encoding="utf-8")
    sections = "|".join(Job.model_fields)
    named = set(re.findall(rf"`((?:{sections})\.\w+)`", TEXT))
    assert named
    assert not [name for name in named if f"| `{name}` |" not in reference and f"### `{name}`" not in reference]


def test_the_exit_codes_are_those_of_the_command() -> None:
    told = {int(code) for row in table("Troubleshooting") if row.startswith("exit code") for code in re.findall(r"\d+", row)}
    assert told == {answers.FAILED, answers.BAD_INPUT, answers.NOT_YET, answers.NOT_PROVED, 130, cli.TERMINATED}


def test_the_reference_is_what_the_command_line_and_the_schema_say() -> None:
    written = runpy.run_path(str(ROOT / "deployments" / "reference.py"))["reference"]()
    assert REFERENCE.read_text(encoding="utf-8") == written, "python deployments/reference.py writes it anew"
    schema = json.loads((ROOT / "deployments" / "job.schema.json").read_text(encoding="utf-8"))
    assert schema == job_schema(), "python deployments/reference.py writes it anew"


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("24 rows\nreport: .../report.html\n", "24 rows\nreport: /a/b/report.html\n", True),
        ("24 rows\n...\n", "24 rows\nmore\nand more\n", True),
        ("24 rows", "25 rows", False),
        ("24 rows", "24 rows\nnote: something is wrong", False),
        ("0.449 │ drag", "0.451 │ drag", True),
        ("0.449 │ drag", "0.551 │ drag", False),
    ],
)
def test_the_comparison_of_what_is_printed_tells_them_apart(expected: str, printed: str, *, same: bool) -> None:
    assert prints(expected, printed) is same
