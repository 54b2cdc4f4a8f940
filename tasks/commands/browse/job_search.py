"""Search of a job's collections: that of its own encoder and, if it is another, the one that its alias points to."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.adapters.processes.scratch import scratch_folder
from tasks.adapters.targets.field_conditions import comparisons_of, with_conditions
from tasks.commands.browse.search_request import QUERY_PICTURE_BYTES, SearchRequest
from tasks.commands.search import CollectionSearch, Searcher, SearchOptions
from tasks.domain.errors import BadInput, KitestringError
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.job import Job
from tasks.domain.target.chunk_context import ChunkContext
from tasks.domain.target.chunk_fields import has_chunks
from tasks.domain.target.collection import CollectionSpec, Hit
from tasks.domain.target.fields import FieldType
from tasks.run.promotion.live_collection import encoder_that_made
from tasks.run.promotion.search_modes import check_mode, modes_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAnswer:
    """Hits, with collection and mode. `model_seconds`: time that the query waited for the encoder to load."""

    collection: str
    mode: str
    hits: list[Hit]
    passages: dict[str, ChunkContext]
    model_seconds: float = 0.0


class JobSearch:
    """Searches a job's collections. Thread-safe; loads each encoder once."""

    def __init__(self, job: Job) -> None:
        """Raises BadInput if the corpus has no vectors of the job's encoder or the collection does not exist."""
        self.job = job
        self._own = Searcher(job)
        self._others: dict[str, CollectionSearch] = {}
        self._turn = threading.Lock()
        self._own.spec()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._own.target.close()

    def load(self) -> None:
        """Load the job's encoder now."""
        self._own.load()

    @property
    def takes_pictures(self) -> bool:
        return "image" in ENCODERS[self.job.encoder.kind].modalities

    def collections(self) -> list[dict[str, Any]]:
        """The collections that can be searched, the job's own first, each with its fields and modes."""
        own, live = self._own.plan.spec.name, self._live()
        names = [own, live] if live and live != own else [own]
        return [_described(self._spec(name), live=name == live, rows=self._own.target.collection(name).count()) for name in names]

    def search(self, request: SearchRequest) -> SearchAnswer:
        """Answer a search request.

        Raises:
            BadInput: no words and no picture, or both; an unknown collection, mode or filter; names the field.
        """
        if (request.text is None) == (request.picture is None):
            raise BadInput("give either text, the words to search for, or picture, in base64")
        search = self._search_of(request.collection)
        spec = search.spec()
        mode = check_mode(spec, request.mode, "mode") if request.text is not None else "dense"
        way = SearchOptions(mode=mode, explain=request.explain, all_chunks=request.all_chunks, named="")
        expression = with_conditions(request.filter, request.where, fields_of(spec))
        hits, waited = self._ask(search, request, expression, way)
        return SearchAnswer(collection=spec.name, mode=mode, hits=hits, passages=search.passages(hits), model_seconds=waited)

    def _ask(self, search: CollectionSearch, request: SearchRequest, expression: str, way: SearchOptions) -> tuple[list[Hit], float]:
        """The hits, and the seconds that the query waited for the encoder."""
        if request.text is not None:
            waited = search.wait_for_encoder(expression, way) if request.text.strip() else 0.0
            return search.search(request.text, request.k, expression=expression, way=way), waited
        if request.mode in ("text", "hybrid"):
            raise BadInput(f"mode {request.mode}: a picture has no words: leave mode out")
        if not self.takes_pictures:
            raise BadInput(f"picture: an encoder of kind '{self.job.encoder.kind}' embeds text only")
        picture = request.picture_bytes()
        if len(picture) > QUERY_PICTURE_BYTES:
            raise BadInput(f"picture: it has more than {QUERY_PICTURE_BYTES >> 20} MiB")
        with scratch_folder() as scratch:
            place = scratch / "picture"
            place.write_bytes(picture)
            waited = search.wait_for_encoder(expression, way)
            return _nearest(search, place, request.k, expression, way), waited

    def _search_of(self, name: str | None) -> CollectionSearch:
        own = self._own.plan.spec.name
        live = self._live() if name not in (None, own) else None
        if name is None or name == own or (name == self.job.target.collection and live == own):
            return self._own
        if live is None or name not in (live, self.job.target.collection):
            raise BadInput(
                f"collection '{name}' is not one of this job: there are {', '.join(each['name'] for each in self.collections())}"
            )
        with self._turn:
            if live not in self._others:
                self._others[live] = self._opened(live)
            return self._others[live]

    def _opened(self, name: str) -> CollectionSearch:
        collection, spec = self._own.target.collection(name), self._spec(name)
        if spec.fingerprint == self._own.record.identity.fingerprint:  # it differs only in full text
            return CollectionSearch(collection, self._own.encoder)
        try:
            return CollectionSearch(collection, encoder_that_made(self._own.plan, spec))
        except BadInput as error:
            raise BadInput(f"collection '{name}' cannot be searched: {error}") from error

    def _live(self) -> str | None:
        return self._own.target.resolve(self.job.target.collection)

    def _spec(self, name: str) -> CollectionSpec:
        spec = self._own.target.collection(name).describe()
        return spec or self._own.spec()


def _nearest(search: CollectionSearch, place: Path, k: int, expression: str, way: SearchOptions) -> list[Hit]:
    """Search by a picture; messages do not name its path, which is a temporary file that users do not know."""
    try:
        return search.search_picture(str(place), k, expression=expression, way=way)
    except KitestringError as error:
        message = str(error).removeprefix(f"--image '{place}': ").replace(f"'{place}'", "it").replace(str(place), "it")
        raise type(error)(message if message == str(error) else f"picture: {message}") from error


def fields_of(spec: CollectionSpec) -> dict[str, FieldType]:
    """The fields that filters may use, with their types."""
    text: dict[str, FieldType] = {"text": "varchar"} if spec.store_text else {}
    return {"id": "varchar", **text, **{field.name: field.type for field in spec.fields}}


def _described(spec: CollectionSpec, *, live: bool, rows: int) -> dict[str, Any]:
    return {
        "name": spec.name,
        "live": live,
        "model": spec.model,
        "rows": rows,
        "metric": spec.metric,
        "modes": modes_of(spec),
        "chunks": has_chunks(spec.fields),
        "fields": [{"name": name, "type": kind, "is": comparisons_of(kind)} for name, kind in fields_of(spec).items()],
    }
