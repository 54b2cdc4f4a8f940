"""What can be searched of a job: the collection of its own encoder and, if that is another, the one that its alias points to."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.adapters.processes.scratch import scratch_folder
from tasks.adapters.targets.field_conditions import comparisons_of, with_conditions
from tasks.commands.browse.search_request import QUERY_PICTURE_BYTES, SearchRequest
from tasks.commands.search import CollectionSearch, Searcher, SearchWay
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
    """Hits, and how they were found. `model_seconds`: for which the question had to wait until the encoder was loaded."""

    collection: str
    mode: str
    hits: list[Hit]
    passages: dict[str, ChunkContext]
    model_seconds: float = 0.0


class JobSearch:
    """Answers questions to a job's collections from any threads, with each encoder loaded once."""

    def __init__(self, job: Job) -> None:
        """Raises BadInput: nothing was made with the job's encoder, or the collection is not there."""
        self.job = job
        self._own = Searcher(job)
        self._others: dict[str, CollectionSearch] = {}
        self._turn = threading.Lock()
        self._own.made()

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
        """What there is to search, the job's own first, with the fields and modes of each."""
        own, live = self._own.plan.spec.name, self._live()
        names = [own, live] if live and live != own else [own]
        return [_described(self._made(name), live=name == live, rows=self._own.target.collection(name).count()) for name in names]

    def search(self, request: SearchRequest) -> SearchAnswer:
        """Answer a question.

        Raises:
            BadInput: neither words nor a picture, no such collection, a mode or a filter that it has not; names the field.
        """
        if (request.text is None) == (request.picture is None):
            raise BadInput("give either text, the words to search for, or picture, in base64")
        picked = self._picked(request.collection)
        made = picked.made()
        mode = check_mode(made, request.mode, "mode") if request.text is not None else "dense"
        way = SearchWay(mode=mode, explain=request.explain, all_chunks=request.all_chunks, named="")
        expression = with_conditions(request.filter, request.where, fields_of(made))
        hits, waited = self._ask(picked, request, expression, way)
        return SearchAnswer(collection=made.name, mode=mode, hits=hits, passages=picked.passages(hits), model_seconds=waited)

    def _ask(self, picked: CollectionSearch, request: SearchRequest, expression: str, way: SearchWay) -> tuple[list[Hit], float]:
        """Also the seconds for which the encoder was waited for."""
        if request.text is not None:
            waited = picked.wait_for_encoder(expression, way) if request.text.strip() else 0.0
            return picked.search(request.text, request.k, expression=expression, way=way), waited
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
            waited = picked.wait_for_encoder(expression, way)
            return _nearest(picked, place, request.k, expression, way), waited

    def _picked(self, name: str | None) -> CollectionSearch:
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
        collection, made = self._own.target.collection(name), self._made(name)
        if made.fingerprint == self._own.record.identity.fingerprint:  # only its full text is another
            return CollectionSearch(collection, self._own.encoder)
        try:
            return CollectionSearch(collection, encoder_that_made(self._own.plan, made))
        except BadInput as error:
            raise BadInput(f"collection '{name}' cannot be asked: {error}") from error

    def _live(self) -> str | None:
        return self._own.target.resolve(self.job.target.collection)

    def _made(self, name: str) -> CollectionSpec:
        made = self._own.target.collection(name).describe()
        return made or self._own.made()


def _nearest(picked: CollectionSearch, place: Path, k: int, expression: str, way: SearchWay) -> list[Hit]:
    """Without the place of the picture in messages: it is a file of ours, of which nobody knows."""
    try:
        return picked.search_picture(str(place), k, expression=expression, way=way)
    except KitestringError as error:
        told = str(error).removeprefix(f"--image '{place}': ").replace(f"'{place}'", "it").replace(str(place), "it")
        raise type(error)(told if told == str(error) else f"picture: {told}") from error


def fields_of(made: CollectionSpec) -> dict[str, FieldType]:
    """What can be filtered by, with its type."""
    text: dict[str, FieldType] = {"text": "varchar"} if made.store_text else {}
    return {"id": "varchar", **text, **{field.name: field.type for field in made.fields}}


def _described(made: CollectionSpec, *, live: bool, rows: int) -> dict[str, Any]:
    return {
        "name": made.name,
        "live": live,
        "model": made.model,
        "rows": rows,
        "metric": made.metric,
        "modes": modes_of(made),
        "chunks": has_chunks(made.fields),
        "fields": [{"name": name, "type": kind, "is": comparisons_of(kind)} for name, kind in fields_of(made).items()],
    }
