"""The page and the HTTP API as an ASGI application. Requests are worked on in daemon threads, which end with the server."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.adapters.sources.saved_questions import known_questions, save_question
from tasks.commands.browse.guest_access import HEADERS, Access, RequestRefused
from tasks.commands.browse.job_search import JobSearch, SearchAnswer
from tasks.commands.browse.search_request import QUERY_PICTURE_BYTES, PicturesRequest, SaveRequest, SearchRequest, read_request
from tasks.commands.browse.source_pictures import SourcePictures
from tasks.domain.errors import BadInput, KitestringError, NoAnswer, OutcomeUnknown, Transient
from tasks.domain.job.credentials import without_credentials
from tasks.domain.job.gate import Question
from tasks.domain.target.collection import Hit

BODY_BYTES = QUERY_PICTURE_BYTES * 4 // 3 + (1 << 20)  # a picture in base64, and the other fields
EXAMPLES = 6  # saved questions that the page shows before the first search
REQUESTS_AT_ONCE = 16  # requests that are worked on at a time
PAGE_FOLDER = Path(__file__).with_name("page")
CONTENT_TYPES = {"browse.html": "text/html", "browse.css": "text/css", "browse.js": "text/javascript", "hits.js": "text/javascript"}
log = logging.getLogger("kitestring.browse")
T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


class BrowseApp:
    """Answers the requests about one job. `questions`: the file that questions are saved to; `where`: the setting that names it."""

    def __init__(self, search: JobSearch, pictures: SourcePictures, access: Access, *, questions: str | None, where: str) -> None:
        self._search, self._pictures, self._access = search, pictures, access
        self._questions, self._where = questions, where
        self._model = "loading"
        self._places = asyncio.Semaphore(REQUESTS_AT_ONCE)

    def asgi(self) -> ASGIApp:
        """The ASGI application, with access control."""
        routes = [
            Route("/", self._page),
            *(Route(f"/{name}", self._file) for name in CONTENT_TYPES),
            Route("/info", self._answered(self._info)),
            *(
                Route(path, self._answered(answer), methods=["POST"])
                for path, answer in (("/search", self._find), ("/pictures", self._show), ("/questions", self._save))
            ),
        ]
        return _Guarded(Starlette(routes=routes, exception_handlers={HTTPException: _not_found}), self._access)

    def load(self) -> None:
        """Load the model in a thread. A failure is reported by `/info` and by searches."""

        def load() -> None:
            try:
                self._search.load()
                self._model = "ready"
            except Exception as error:  # noqa: BLE001 - searches report it
                self._model = f"failed: {_sentence(error)}"

        threading.Thread(target=load, daemon=True, name="load-model").start()

    async def _page(self, request: Request) -> Response:
        if "token" in request.query_params:  # keeps the token out of the browser's history
            redirect = RedirectResponse("/", status_code=303)
            redirect.set_cookie(self._access.cookie, self._access.token or "", httponly=True, samesite="strict", path="/")
            return redirect
        return _static("browse.html")

    async def _file(self, request: Request) -> Response:
        return _static(request.url.path.lstrip("/"))

    def _answered(self, answer: Callable[[Any], dict[str, Any]]) -> Handler:
        async def handle(request: Request) -> Response:
            try:
                document = await _document(request) if request.method == "POST" else None
                async with self._places:
                    return _json(await _in_thread(lambda: answer(document)))
            except RequestRefused as refused:
                return _json({"error": str(refused)}, refused.status)
            except Exception as error:  # noqa: BLE001 - every error becomes a response of one sentence
                return _json({"error": _sentence(error)}, _status(error))

        return handle

    def _info(self, _: None) -> dict[str, Any]:
        job = self._search.job
        return {
            "corpus": job.corpus,
            "alias": job.target.collection,
            "collections": self._search.collections(),
            "search_by_picture": self._search.takes_pictures,
            "pictures": job.source.modality == "image",
            "questions": self._questions,
            "saved_questions": [each.query for each in self._saved()[:EXAMPLES]],
            "model": self._model,
        }

    def _find(self, document: Any) -> dict[str, Any]:
        request, began = read_request(SearchRequest, document), time.monotonic()
        answer = self._search.search(request)
        self._model = "ready"
        hits = [_hit_document(hit, answer, explain=request.explain) for hit in answer.hits]
        took, loading = time.monotonic() - began, answer.model_seconds
        seconds = {"seconds": round(max(0.0, took - loading), 3), "model_seconds": round(loading, 3)}
        response = {"collection": answer.collection, "mode": answer.mode, **seconds, "hits": hits}
        return {**response, "relevant": self._known(request.text) if request.text else []}

    def _saved(self) -> list[Question]:
        """The saved questions; none if the file cannot be read, which saving reports."""
        try:
            return known_questions(self._questions, self._where) if self._questions else []
        except BadInput:
            return []

    def _known(self, query: str) -> list[str]:
        return [key for each in self._saved() if each.query == query for key, gain in each.relevant.items() if gain > 0]

    def _show(self, document: Any) -> dict[str, Any]:
        request = read_request(PicturesRequest, document)
        pictures = self._pictures.of(request.ids)
        return {"pictures": {key: f"data:image/jpeg;base64,{b64encode(picture).decode()}" for key, picture in pictures.items()}}

    def _save(self, document: Any) -> dict[str, Any]:
        request = read_request(SaveRequest, document)
        if self._questions is None:
            raise BadInput(
                "there is no file of questions: set target.gate.queries in the job, or start `kitestring browse` with --questions FILE"
            )
        new = save_question(self._questions, request.query, list(dict.fromkeys(request.relevant)), self._where)
        return {"query": request.query, "relevant": list(dict.fromkeys(request.relevant)), "new": new, "file": self._questions}


def _hit_document(hit: Hit, answer: SearchAnswer, *, explain: bool) -> dict[str, Any]:
    fields = dict(hit.fields)
    passage = answer.passages.get(hit.id)
    document: dict[str, Any] = {"id": hit.id, "score": hit.score}
    if "text" in fields:
        document["text"] = fields.pop("text")
    document["fields"] = fields
    if passage:
        document["passage"] = passage.model_dump()
    if explain:
        document["ranks"] = {"meaning": hit.by_meaning, "words": hit.by_words}
    return document


class _Guarded:
    """Middleware that refuses requests by `Access` and sets the security headers of every response."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.lower().encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        try:
            self._access.check(request.method, request.url.path, request.headers, request.query_params.get("token"))
        except RequestRefused as refused:
            await _json({"error": str(refused)}, refused.status)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


async def _document(request: Request) -> Any:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise RequestRefused(413, f"the request has more than {BODY_BYTES >> 20} MiB: use a smaller picture")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadInput("the request is not JSON") from None


async def _in_thread(work: Callable[[], T]) -> T:
    """Run work in a daemon thread and return its result: a stopped server does not wait for a model that is loading."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(put: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            put(value)

    def run() -> None:
        try:
            put, value = done.set_result, work()
        except BaseException as error:  # noqa: BLE001 - it is raised in the waiting coroutine
            put, value = done.set_exception, error  # type: ignore[assignment]
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, put, value)

    threading.Thread(target=run, daemon=True, name="browse").start()
    return await done


def _status(error: Exception) -> int:
    if isinstance(error, NoAnswer | Transient | OutcomeUnknown):
        return 503
    return 400 if isinstance(error, BadInput) else 500


def _sentence(error: Exception) -> str:
    """One sentence for the client; unexpected errors are logged as well."""
    message = without_credentials(" ".join(str(error).split()))
    if isinstance(error, KitestringError):
        return message
    log.error("%s: %s: please report this", type(error).__name__, message)
    return f"the request failed unexpectedly ({type(error).__name__}): see the output of `kitestring browse`, and please report it"


def _json(document: dict[str, Any], status: int = 200) -> Response:
    try:
        text = json.dumps(document, default=str, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), default=str)
    return Response(text, status, media_type="application/json")


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by null, since JSON has neither."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _static(name: str) -> Response:
    return Response((PAGE_FOLDER / name).read_bytes(), media_type=f"{CONTENT_TYPES[name]}; charset=utf-8")


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    paths = "GET /, GET /info, POST /search, POST /pictures and POST /questions"
    return _json({"error": f"there is no {request.method} {request.url.path}: there are {paths}"}, status)
