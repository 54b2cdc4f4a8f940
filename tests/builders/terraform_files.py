"""What stands in infra/terraform, read by a parser: no Terraform is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2

FOLDER = Path(__file__).parents[2] / "infra" / "terraform" / "aws"
BUCKETS = {"${aws_s3_bucket.checkpoints.arn}": "vectors", "arn:aws:s3:::${statement.value}": "lake"}


def bare(value: Any) -> Any:
    """Without the quotes that the parser keeps."""
    if isinstance(value, dict):
        return {bare(key): bare(inner) for key, inner in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [bare(inner) for inner in value]
    return value.strip('"') if isinstance(value, str) else value


def blocks(section: str, kind: str) -> Iterator[dict[str, Any]]:
    """What stands in the blocks of a kind, by name, in any file."""
    for path in FOLDER.glob("*.tf"):
        for found in bare(hcl2.loads(path.read_text())).get(section, []):
            if kind in found:
                yield found[kind]


def resource(kind: str, name: str) -> dict[str, Any]:
    (found,) = (named[name] for named in blocks("resource", kind) if name in named)
    return found


def policy_document() -> dict[str, Any]:
    """The policy of jobs, as Terraform would write it with the buckets `vectors` and `lake`."""
    (found,) = (named["jobs"] for named in blocks("data", "aws_iam_policy_document") if "jobs" in named)
    statements = [*found["statement"], *(inner for dynamic in found["dynamic"] for inner in dynamic["statement"]["content"])]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": statement["actions"], "Resource": [arn(text) for text in statement["resources"]]}
            for statement in statements
        ],
    }


def arn(text: str) -> str:
    for written, bucket in BUCKETS.items():
        text = text.replace(written, f"arn:aws:s3:::{bucket}")
    assert "${" not in text
    return text
