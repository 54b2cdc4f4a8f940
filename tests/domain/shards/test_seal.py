"""What a seal is known by."""

from __future__ import annotations

from tasks.domain.shards.amendment import Amendment, amended
from tasks.domain.shards.findings import MOST_KINDS, Finding, Findings, notes_with
from tasks.domain.shards.seal import EncodeStats, Seal
from tests.builders.seals import AMENDED, AMENDMENT, DIGEST, SEAL


class Later(Seal):
    """A seal as a later version may have it."""

    normalised: bool = False


def test_a_seal_names_every_backend_that_made_a_part_of_it() -> None:
    parts = [EncodeStats(backend="torch"), EncodeStats(backend="openvino"), EncodeStats(backend="torch"), EncodeStats()]
    assert sum(parts, EncodeStats()).backend == "openvino and torch"
    assert sum(parts[:1], EncodeStats()).backend == "torch"


def test_a_stored_seal_keeps_the_digest_that_others_name() -> None:
    assert Seal.model_validate_json(SEAL).digest == DIGEST


def test_so_does_an_amended_one() -> None:
    assert amended(Seal.model_validate_json(SEAL), [Amendment.model_validate_json(AMENDMENT)]).digest == AMENDED


def test_a_field_of_a_later_version_counts_where_it_is_not_at_its_default() -> None:
    seal = Later.model_validate_json(SEAL)
    assert seal.digest == DIGEST
    assert seal.model_copy(update={"normalised": True}).digest != DIGEST


def test_a_seal_without_findings_is_stored_as_older_versions_read_it() -> None:
    seal = Seal.model_validate_json(SEAL)
    assert "found" not in seal.model_dump(mode="json")
    told = seal.model_copy(update={"format_version": 3, "found": (Finding(what="links", count=2, example="a"),)})
    assert Seal.model_validate_json(told.model_dump_json()) == told
    assert told.digest != seal.digest


def test_findings_are_counted_by_kind_and_few_kinds_are_kept() -> None:
    found = Findings()
    for at in range(3 * MOST_KINDS):
        found.add(f"kind {at % 25}", f"example {at}")
    kinds = found.all()
    assert (len(kinds), sum(kind.count for kind in kinds)) == (MOST_KINDS + 1, 3 * MOST_KINDS)
    assert str(kinds[0]) == "kind 0: 3, the first: 'example 0'"
    assert notes_with(["a", "kind 0: 1, the first: 'example 0'"], kinds[:1]) == ("a", "kind 0: 3, the first: 'example 0'")
