"""Files below another root with the name, size and time of sealed files: different files, unless the sealed ones were moved or copied."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.adapters.files.copies import Likeness, liken
from tasks.domain.errors import BadInput
from tasks.domain.shards.removal import below
from tasks.domain.shards.shard import Shard, name_shard
from tasks.run.plan import Plan

SEALED_FILE: dict[Likeness, str] = {"gone": "which is no longer there", "copy": "of which it is a copy"}


def refuse_doubtful(plan: Plan, *, encodes: bool = True) -> None:
    """Refuse files that may be moved or copied sealed files: as different files, all of their pictures would be encoded again.

    Nothing is listed or read if all shards are below the corpus' first root. Copies of texts are allowed if rows are encoded, since they
    reuse the vectors. So is a copied list of pictures whose version depends on its content: it could not be given another.

    Raises:
        BadInput: there are such files; names the first of them and the file that it resembles.
    """
    takes_over = encodes and plan.job.source.modality == "text"
    for shard, place in _doubles(plan):
        root = place.removesuffix(shard.group).rstrip("/") or "/"
        likeness = liken(shard.span.files, root)
        if likeness == "gone" or (likeness == "copy" and not takes_over and shard.is_timed):
            raise BadInput(
                f"'{shard.place}' has the name, size and time of '{place}', whose vectors are kept, {SEALED_FILE[likeness]}: nothing was written. "
                f"If the files were moved, copied or mounted elsewhere, set source.moved_from: {root}; if they are others, give them another "
                f"time (`touch`)"
            )


def _doubles(plan: Plan) -> Iterator[tuple[Shard, str]]:
    """Yield unsealed shards that look like a sealed one, each with the place of the sealed shard's first file."""
    places = plan.places
    if places.first.certain and all(places.known_as(root) in places.first.roots for root in plan.spool.roots):
        return
    sealed = plan.checkpoint.sealed_ids()
    for shard in (shard for shard in plan if shard.id not in sealed):
        double = _without_root(plan, shard)
        if double != shard.id and double in sealed and (place := _place_of(plan, shard, double)):
            yield shard, place


def _without_root(plan: Plan, shard: Shard) -> str:
    return name_shard(shard.span, rows_as=plan.rows_as, fingerprint=plan.spec.fingerprint).id


def _place_of(plan: Plan, shard: Shard, double: str) -> str | None:
    first = plan.places.first.roots
    return below(first[0], shard.group) if len(first) == 1 else plan.places.place_of(double)
