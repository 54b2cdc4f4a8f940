"""The plan of a run: the shards of a source under an encoder, and the ledger of the collection that they are loaded into."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tasks.adapters.checkpoint.checkpoint import Checkpoint, pin_encoder
from tasks.adapters.checkpoint.past_reports import known_roots
from tasks.adapters.checkpoint.places.source_places import SourcePlaces
from tasks.adapters.checkpoint.seal_cache import StreamCache
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.checkpoint.span_file import Spool
from tasks.adapters.files.access import root_of
from tasks.adapters.models.model_metadata import shape_of
from tasks.adapters.processes.scratch import scratch_folder
from tasks.adapters.rows.chunking.splitter import ChunkSplitter
from tasks.domain.encoder_identity import EncoderRecord, differences
from tasks.domain.errors import BadInput, KitestringError
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection, Target
from tasks.domain.shards.layout import encoder_pin
from tasks.domain.shards.removal import Roots
from tasks.domain.shards.resume import missing
from tasks.domain.shards.seal import Seal
from tasks.domain.shards.shard import Shard, Span, name_shard
from tasks.domain.shards.task_groups import MOST_GROUPS, MOST_IN_GROUP, grouped, rows_of
from tasks.domain.target.collection import CollectionSpec, collection_name, index_to_build, target_fingerprint
from tasks.run.model_notes import metric_of
from tasks.run.preflight import EDITED, Inspected, inspect_job

if TYPE_CHECKING:
    from tasks.run.seals.held_vectors import HeldVectors

MOST_DONORS = 2_000
SPANS_FILE = "spans.jsonl"  # of a plan, in its scratch folder
NOWHERE = "nowhere"  # the ledger of a collection that does not exist: nothing is ever written to it


class Plan:
    """The shards of a source under an encoder, and the collection for them."""

    def __init__(self, inspected: Inspected, spool: Spool, record: EncoderRecord) -> None:
        self.inspected, self.spool, self.record = inspected, spool, record
        job, fingerprint = inspected.job, record.identity.fingerprint
        stored = job.target.stored_as
        self.job, self.rows_as = job, inspected.rows_as
        self.checkpoint = Checkpoint(inspected.store, job.corpus, fingerprint, inspected.damages)
        self.spec = CollectionSpec(
            name=collection_name(job.target.collection, fingerprint, stored.full_text),
            alias=job.target.collection,
            dim=record.facts.dim,
            metric=metric_of(inspected),
            store_text=job.target.store_text and job.source.modality == "text",
            id_length=job.target.id_length,
            fields=inspected.collection_fields,
            partition_key=next((field.name for field in inspected.fields if field.column == stored.partition_key), None),
            vector_type=stored.vector_type,
            sparse=ENCODERS[job.encoder.kind].sparse,
            index=stored.index,
            full_text=stored.full_text,
            fingerprint=fingerprint,
            model=job.encoder.model_name,
            revision=record.identity.revision,
            server=record.facts.server,
        )
        self.places = SourcePlaces(
            self.checkpoint, roots=lambda: self.roots, target=lambda: self.target, shards=lambda: spool.named(fingerprint)
        )
        self.seals: StreamCache[Seal] = StreamCache(spool.scratch, Seal)
        self.address = target_fingerprint(job.target, self.spec.name)  # known before the collection exists
        self.lock = threading.Lock()
        self.loading = False  # whether this run has begun to load into the collection
        self.noted: DigestSet | None = None  # shards in the ledger when the source was cut; None: it was not read
        self.held_vectors: HeldVectors | None = None  # of earlier shards, created when a shard may contain them again
        self._target: str | None = None
        self._donors: tuple[str, ...] | None = None
        self._looking_for_donors = threading.Lock()

    @property
    def scratch(self) -> Path:
        """The folder for temporary files, removed however the run ends. A plan without a source has none."""
        assert self.spool.scratch is not None
        return self.spool.scratch

    def __iter__(self) -> Iterator[Shard]:
        """Yield every shard in source order; streams."""
        return (self.name(span) for span in self.spool.spans())

    def name(self, span: Span) -> Shard:
        """Name a span as a shard of this plan. If the versions of its files do not identify the content of its rows, the id has their root."""
        rows_as, fingerprint, root = self.rows_as, self.spec.fingerprint, span.files[0].root
        shard = name_shard(span, rows_as=rows_as, fingerprint=fingerprint)
        names_pictures = self.job.source.modality == "image" and self.job.source.named is not None  # relative to the file that a row is in
        if not names_pictures and not shard.is_timed:
            return shard
        named = []
        for name in self.places.names(root):
            in_id, known_as = self.places.in_id(shard, name), name if name != root else ""
            renamed = in_id or known_as  # otherwise the id is that of `shard`: its digest is not computed twice
            named.append(name_shard(span, rows_as=rows_as, fingerprint=fingerprint, root=in_id, known_as=known_as) if renamed else shard)
        return named[0] if len(named) == 1 else self.places.sealed_one(named)

    def settle_places(self) -> None:
        """Record what the shard ids of this run depend on, before anything is sealed under them; a dry run does not."""
        if self.inspected.damages.mends:
            self.places.settle(self.roots.now)

    @property
    def roots(self) -> Roots:
        """The current and the previous root of the source."""
        source = self.job.source
        now = next(iter(self.spool.roots), root_of(source.uri))
        old, file = root_of(source.moved_from) if source.moved_from else None, PurePosixPath(source.uri)
        if old and file.suffix and file.suffix == PurePosixPath(old).suffix and file.name != PurePosixPath(now).name:
            old = old.rpartition("/")[0] or "/"  # the source is one file, and was one before
        return Roots(now=now, moved_from=old)

    def has_one_root(self) -> bool:
        """Whether all rows of the collection were read from below the planned root; lists the recorded roots."""
        roots = self.roots
        return all(roots.moved(root) == roots.now for root in self.checkpoint.roots(self.target))

    @property
    def target(self) -> str:
        """The name of the collection's ledger: its identity, or its address if it was created without one.

        A collection that does not exist has an empty ledger; one that does not answer has the ledger last recorded for its address.
        """
        if self._target is None:
            try:
                with closing(self.inspected.open_target()) as target:
                    identity = target.collection(self.spec.name).identity()
            except KitestringError:
                return self.checkpoint.read_address(self.address) or self.address
            if identity is None:
                return NOWHERE
            self._target = identity or self.address
        return self._target

    @property
    def donors(self) -> tuple[str, ...]:
        """Sealed shards that are no longer planned; rows with the same content reuse their vectors.

        Shards that the collection still holds come first, since this run replaces them; then the newest. Every group carries the list,
        so it is short enough to be sent to another machine with each group.
        """
        with self._looking_for_donors:
            if self._donors is None:
                self._donors = tuple(self._find_donors())
            return self._donors

    def without_donors(self) -> Plan:
        """Return this plan with no donors. Used where none exist, so that shards sealed meanwhile do not become donors."""
        with self._looking_for_donors:
            self._donors = ()
        return self

    def _find_donors(self) -> Iterator[str]:
        planned = DigestSet(shard.id for shard in self)
        ages = self.checkpoint.seal_ages(but=planned)
        loaded = self.checkpoint.loaded_ids(self.target)
        best = heapq.nlargest(MOST_DONORS, ages, key=lambda aged: (aged[1] in loaded, aged[0]))
        return (shard for _, shard in best)

    def bind(self, identity: str) -> None:
        """Use the ledger of this identity from now on; the collection exists now."""
        target = identity or self.address
        if target != self._target or self.checkpoint.read_address(self.address) != target:
            self.checkpoint.record_address(self.address, target)
        self._target = target

    def confirm_encoder(self) -> None:
        """Compare `encoder.json` with the encoder pinned for the corpus; a run writes either of them again if it is missing or damaged.

        Raises:
            BadInput: it describes another encoder; nothing was written.
        """
        pinned, recorded, ours = self.inspected.pinned(), self.checkpoint.read_any_encoder(), self.record
        wrong = (differences(recorded.identity, ours.identity) or differences(recorded.facts, ours.facts)) if recorded else ""
        if wrong:
            pin = encoder_pin(self.job.corpus, self.inspected.declared)
            raise BadInput(f"{self.inspected.store.url}/{self.checkpoint.layout.encoder} does not agree with {pin}: {wrong}: {EDITED}")
        if self.inspected.damages.mends and (pinned is None) != (recorded is None):
            pin_encoder(self.checkpoint, self.inspected.declared, self.record)

    def check_chunks(self) -> None:
        """Check that the encoder does not truncate chunks.

        Raises:
            BadInput: it would truncate them; says what to change.
        """
        if chunks := self.job.source.chunking:
            ChunkSplitter(chunks, shape_of(self.job.encoder, self.inspected.model), self.record.facts.max_seq_length)

    def note_ledger(self) -> None:
        """Keep the shards that the ledger has now, to recognise those that another run loads later."""
        self.noted = DigestSet(self.checkpoint.noted_ids(self.target))

    def settle_columns(self) -> None:
        """Record the inferred metadata columns before any row is made; a dry run does not."""
        if self.inspected.settles and self.inspected.damages.mends:
            self.checkpoint.settle_columns(self.inspected.settles)

    def not_loaded(self, loaded: Container[str]) -> tuple[int, int | None]:
        """Count the shards that are not yet loaded, and their source rows; None for the rows if a shard's are not known in advance."""
        shards = rows = 0
        for shard in missing(self, loaded):
            shards += 1
            rows += shard.span.rows or 0
        return shards, rows if self.spool.rows_known else None

    def groups(self, loaded: Container[str]) -> Iterator[list[Shard]]:
        """Group the shards that are not yet loaded, one group for each task."""
        aim = self.job.shards.rows
        waiting = 0
        for shard in missing(self, loaded):
            waiting += rows_of(shard, aim=aim)
            if waiting >= MOST_GROUPS * MOST_IN_GROUP * aim:
                break  # groups have their largest size then
        return grouped(missing(self, loaded), aim=aim, rows=waiting)


def spool_spans(inspected: Inspected, scratch: Path, seen: Callable[[Span], None] = lambda _: None) -> Spool:
    """Cut the source into spans; `seen` is called with each.

    Raises:
        BadInput: the source has no rows, or a file cannot be read.
    """

    def spans() -> Iterator[Span]:
        for span in inspected.source.spans():
            seen(span)
            yield span

    spool = Spool(scratch / SPANS_FILE, spans(), rows_as=inspected.rows_as, scratch=scratch)
    if not spool.shards:
        raise BadInput(f"source.uri: '{inspected.job.source.uri}' has no rows")
    spool.unread, spool.found = inspected.source.left_out.files(), inspected.source.found.all()
    return spool


def plan_again(inspected: Inspected, scratch: Path) -> Plan | None:
    """The plan of a job whose encoder an earlier run has pinned, without loading the encoder; None before the first run."""
    pinned = inspected.pinned()
    return Plan(inspected, spool_spans(inspected, scratch), pinned) if pinned else None


def check_target(plan: Plan) -> None:
    """Check before the first write that the collection fits the plan.

    Raises:
        BadInput: the server does not answer, a collection of that name has other settings, or a mirror of another root would
            replace its rows.
    """
    with closing(plan.inspected.open_target()) as target:
        collection = target.collection(plan.spec.name)
        if plan.job.target.metric == "auto" and plan.inspected.model.metric and (existing := collection.describe()):
            plan.spec = plan.spec.model_copy(update={"metric": existing.metric})
        collection.check(plan.spec)
    check_roots(plan)


def check_roots(plan: Plan) -> None:
    """Refuse to mirror one root over the rows of another.

    Raises:
        BadInput: the collection holds rows of files below another root; names both.
    """
    if plan.job.target.mode != "mirror":
        return
    strangers = plan.roots.strangers(known_roots(plan.checkpoint, plan.target))
    if strangers:
        raise BadInput(
            f"source.uri: this mirror reads '{plan.roots.now}', and collection '{plan.spec.name}' holds rows read from '{strangers[0]}', "
            f"which it would remove: nothing was written. If the same files were moved or are mounted elsewhere, set source.moved_from: "
            f"{strangers[0]}; if they are different files, use another corpus and target.collection, or target.mode: append"
        )


@contextmanager
def planned(job: Job) -> Iterator[Plan | None]:
    """The plan of a job for reading; None before its first run."""
    with scratch_folder() as scratch:
        yield plan_again(inspect_job(job), scratch)


@contextmanager
def planned_before(job: Job) -> Iterator[Plan]:
    """The plan of a job that has run before.

    Raises:
        BadInput: no run has pinned this encoder yet.
    """
    with planned(job) as plan:
        if plan is None:
            raise BadInput(f"corpus '{job.corpus}' has no vectors of this encoder: `kitestring run` creates them")
        yield plan


def index_notes(plan: Plan, existing: CollectionSpec) -> list[str]:
    """A note if a collection's index differs from the job's, for commands that do not rebuild it."""
    differs = index_to_build(existing, plan.spec)
    return [f"'{plan.spec.name}' has the index {differs}: `kitestring run` rebuilds it"] if differs else []


def other_words(plan: Plan, target: Target) -> str | None:
    """A note if the alias points to a collection of this encoder whose full text differs from the job's; otherwise None."""
    live = target.resolve(plan.spec.alias)
    existing = target.collection(live).describe() if live else None
    if existing is None or existing.fingerprint != plan.spec.fingerprint or str(existing.full_text) == str(plan.spec.full_text):
        return None
    has, asks = (f"full text {spec.full_text}" if spec.full_text else "no full text" for spec in (existing, plan.spec))
    return (
        f"'{plan.spec.alias}' points to '{live}', which has {has}, and the job asks for {asks}: "
        "`kitestring run` loads such a collection and moves the alias"
    )


@contextmanager
def opened(plan: Plan) -> Iterator[Collection]:
    """The plan's collection, closed at the end."""
    with closing(plan.inspected.open_target()) as target:
        yield target.collection(plan.spec.name)
