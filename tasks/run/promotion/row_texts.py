"""Texts of rows as they were embedded, by key: from the collection or from the source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tasks.adapters.models.model_metadata import shape_of
from tasks.adapters.rows.builder import Prepared, prepare
from tasks.adapters.rows.chunking.documents import chunk_documents
from tasks.adapters.rows.chunking.splitter import ChunkSplitter
from tasks.domain.ports import Collection
from tasks.domain.shards.shard import Shard
from tasks.domain.target.fields import VARCHAR_BYTES
from tasks.run.plan import Plan

TEXT_READ_BYTES = 256 << 20  # of the source that are read for texts
LONGEST_CHARACTER = 4  # bytes


def stored_texts(collection: Collection, keys: Sequence[str]) -> dict[str, str]:
    """Returns the texts that the collection holds whole. It truncates at 65,535 bytes, at a character boundary."""
    found = {key: str(values["text"] or "") for key, values in collection.values_of(list(keys), ["text"]).items()}
    return {key: text for key, text in found.items() if len(text.encode()) <= VARCHAR_BYTES - LONGEST_CHARACTER}


def source_texts(
    plan: Plan, collection: Collection, keys: Sequence[str], *, others: Sequence[str] = (), budget: int = TEXT_READ_BYTES
) -> dict[str, str]:
    """Returns texts from the shards of the plan, as far as the budget allows.

    Args:
        plan: of the corpus.
        collection: names the shard of each key.
        keys: of the rows to find first.
        others: of the rows to find with the rest of the budget.
        budget: bytes of rows to read at most.
    """
    held_by = collection.shards_of([*keys, *others])
    wanted: dict[str, set[str]] = defaultdict(set)
    for key, holder in held_by.items():
        wanted[holder].add(key)
    found: dict[str, str] = {}
    first = {held_by[key] for key in keys if key in held_by}
    for some in (first, wanted.keys() - first):
        for shard in plan if some else ():
            for rows in _rows_of(plan, shard) if shard.id in some else ():
                ids, texts = rows.batch.column("id").to_pylist(), rows.batch.column("text")
                found |= {key: texts[at].as_py() for at, key in enumerate(ids) if key in wanted[shard.id]}
                budget -= rows.batch.nbytes
                if budget <= 0:
                    return found
                if wanted[shard.id] <= found.keys():
                    break
    return found


def _rows_of(plan: Plan, shard: Shard) -> Iterator[Prepared]:
    """Returns a shard's rows or chunks, with their keys in the collection."""
    job, fields = plan.job, plan.inspected.collection_fields
    rows = prepare(plan.inspected.source, shard, job=job, fields=fields)
    chunks = job.source.chunking
    if chunks is None:
        return rows
    splitter = ChunkSplitter(chunks, shape_of(job.encoder, plan.inspected.model), plan.record.facts.max_seq_length)
    return chunk_documents(rows, splitter, fields)
