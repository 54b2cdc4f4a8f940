"""A served model: asked who it is, and then for vectors, none of which is taken from another model than the pinned one.

With every request goes a canary, a text whose vector is known. An answer in which it has another vector is not taken, whichever of a load
balancer's servers gave it, and however short the time since the server was asked who it is.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from tasks.adapters.backoff import Backoff, RetryPolicy
from tasks.adapters.served.in_flight import InFlight
from tasks.adapters.served.openai_api import OpenAiApi
from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.adapters.served.server_answers import Described, Faulty, NoVectors, Refused, ServedApi, ServerBusy, Unanswered
from tasks.adapters.served.server_connection import ServerConnection
from tasks.adapters.served.server_token import token_of
from tasks.adapters.served.tei_api import TeiApi
from tasks.adapters.served.triton_api import TritonApi
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.served_identity import CANARY_APART, NUMBERS, PROBES, ServedIdentity, distance, other_server, served_identity

FloatArray = npt.NDArray[np.float32]
APIS: dict[str, Callable[[ServedEncoder, ServerConnection], ServedApi]] = {"openai": OpenAiApi, "tei": TeiApi, "triton": TritonApi}
FIRST_CONTACT = 20.0  # seconds for which nothing may answer at a run's start: a wrong address is told soon
# Of a server that refuses the fixed texts, which have up to 130 characters: vLLM takes none that is longer than what its model reads.
REFUSED_CURE = (
    "correct the encoder's settings; if the model reads fewer tokens than the fixed texts have by which it is known, have vLLM cut"
    " what is too long, by encoder.parameters: {truncate_prompt_tokens: -1}"
)
USUAL_ROWS = 32  # in a request, where the server does not say how many it takes


class ServedModel:
    """A server's model. One object may be used from many threads.

    Args:
        encoder: its settings.
        pinned: what it has to be; None: whatever answers first.
        patience: seconds for which an answer, and a server that is gone, are waited for.
        startup: seconds for which a server that says that it is busy is waited for at first.
        batch_rows: most texts in a request, where the job says it.
        whole: rows that the server would cut are refused by it, where it can be asked to.
        policy: the waits between tries.
        share: most requests in flight of this host, where others ask the server as well; None: the settings alone say it.
    """

    def __init__(
        self,
        encoder: ServedEncoder,
        *,
        pinned: ServedIdentity | None = None,
        patience: float = 300.0,
        startup: float = 300.0,
        batch_rows: int | None = None,
        whole: bool = False,
        policy: RetryPolicy | None = None,
        share: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._settings, self._pinned, self._batch_rows = encoder, pinned, batch_rows
        self._patience, self._startup = patience, startup
        self._connection = ServerConnection(encoder.url, token_of(encoder), seconds=patience)
        self._api = APIS[encoder.api](encoder, self._connection)
        self._parameters = {**encoder.parameters, **(self._api.whole if whole else {})}
        self._closing, self._asking = threading.Event(), threading.Lock()
        self._policy = policy or RetryPolicy(what="served model", first=0.5, longest=10.0, sleep=self._sleep)
        self._clock = self._policy.clock
        fixed = None if encoder.requests == "auto" else encoder.requests
        self.in_flight = InFlight(fixed, clock=self._clock, pause=self._policy.sleep, share=share)
        self._facts: EncoderFacts | None = None
        self._asked_at = self._failed_to_answer_at = -math.inf
        self._broken: Permanent | None = None  # why no vector is taken any more
        self.most_rows = 1
        self.waits_for = ""

    def facts(self) -> EncoderFacts:
        """What the model is. The first call asks, and waits for the server.

        Raises:
            BadInput: nothing answers, or something else than what is pinned; says what to change.
            Transient: the server has been too busy all the time.
        """
        with self._asking:
            if self._facts is None:
                self._facts = self._introduced()
        return self._facts

    def embed_rows(self, texts: list[str], *, alone: bool = False) -> FloatArray:
        """The vectors of some rows' texts: float32 of shape (texts, dim), possibly not finite. Tried once, but for a busy server.

        Args:
            texts: no more than `most_rows`.
            alone: no other request is under way meanwhile.

        Raises:
            NoVectors: there are none; whose fault it is, `confirm` helps to tell.
            Transient: the server has been too busy for too long.
            Permanent: another model is there now, or the server does not take the token any more.
        """
        self.facts()
        with self._under_way():
            found = self._patiently([PROBES[0], *texts], self._parameters, self._settings.prompt, alone=alone)
        self._check(found, len(texts) + 1)
        self.in_flight.answered(sum(map(len, texts)))
        return found[1:]

    def embed_questions(self, texts: list[str]) -> FloatArray:
        """The same for questions.

        Raises:
            Transient: they have no vectors now.
            BadInput: the server does not take them.
        """
        settings, dim = self._settings, self.facts().dim
        parameters = settings.parameters if settings.query_parameters is None else settings.query_parameters
        found: list[FloatArray] = []
        for first in range(0, len(texts), self.most_rows):
            some = texts[first : first + self.most_rows]
            try:
                vectors = self._patiently(some, parameters, settings.query_prompt)
            except Refused as error:
                raise BadInput(f"the query has no vector: {error}") from error
            except NoVectors as error:
                raise Transient(str(error)) from error
            if vectors.shape != (len(some), dim) or not np.isfinite(vectors).all():
                raise Transient(f"{settings.url} gave no vectors of {dim:,} numbers for the queries")
            found.append(vectors)
        return np.concatenate(found) if found else np.zeros((0, dim), np.float32)

    def confirm(self, failed_at: float) -> bool:
        """After a request failed: wait until the server answers, and that it is the pinned model.

        Args:
            failed_at: when it was sent; nothing is asked where the server was asked since.

        Returns:
            Whether it embedded nothing for a while since: it was down, whatever it answered to that request (vLLM: 500, as its engine dies).

        Raises:
            Permanent: it is another one.
            Transient: it did not answer for as long as patience lasts.
        """
        with self._asking:
            if self._broken:
                raise self._broken
            if self._asked_at <= failed_at:
                with self._under_way():
                    self._introduced()
            return self._failed_to_answer_at >= failed_at

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """Bad input was found at the start: parts of a shard that is refused for it are thrown away, and these are good."""
        try:
            yield
        except BadInput as error:
            self._broken = self._broken or Permanent(str(error))
            raise self._broken from error

    def now(self) -> float:
        """For `confirm`."""
        return self._clock()

    def close(self) -> None:
        """Nothing is waited for any more, and what is sent fails."""
        self._closing.set()
        self._connection.close()

    def _sleep(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise Transient("the encoder is closed: the run is ending")

    def _introduced(self) -> EncoderFacts:
        """Ask the server who it is, until it answers."""
        began, first = self._clock(), self._facts is None
        backoff = self._backoff(self._startup if first else self._patience)
        while True:
            try:
                return self._met()
            except NoVectors as error:
                self.waits_for = f"the encoder's server: {error}"
                if isinstance(error, Refused):
                    raise BadInput(f"encoder: {error}: {REFUSED_CURE}") from error
                if isinstance(error, Unanswered) and first and self._clock() - began > min(FIRST_CONTACT, self._startup):
                    raise BadInput(f"encoder.url: {error}: start the server, or correct the encoder's settings") from error
                if not isinstance(error, ServerBusy):
                    self._failed_to_answer_at = self._clock()
                if not backoff.wait(error.seconds if isinstance(error, ServerBusy) else None):
                    raise Transient(f"the encoder's server gave no vectors for {self._clock() - began:,.0f} s: {error}") from error
                if self._closing.is_set():
                    raise Transient("the encoder is closed: the run is ending") from error

    def _met(self) -> EncoderFacts:
        asked_at, described = self._clock(), self._api.describe()
        self._settle_rows(described)
        vectors = self._probed()
        identity = served_identity(described.told, vectors.tolist())
        if other := other_server(identity, self._pinned):
            raise BadInput(
                f"encoder: {self._settings.url} serves another model than this corpus was embedded with: {other}."
                " No row was mixed: serve that model again, or set encoder.revision to a new name to embed the corpus anew"
            )
        self._pinned, self._asked_at, self.waits_for = self._pinned or identity, asked_at, ""
        return EncoderFacts(
            dim=vectors.shape[1],
            max_seq_length=described.most_tokens,
            precision="float32",
            device=f"{self._settings.api} server",
            server=self._pinned,
        )

    def _settle_rows(self, described: Described) -> None:
        """One place in each request is the canary's."""
        most = min(self._batch_rows or described.most_rows or USUAL_ROWS, described.most_rows or self._batch_rows or USUAL_ROWS)
        self.most_rows = max(1, most - 1)

    def _probed(self) -> FloatArray:
        """Of PROBES, no more in a request than the server takes."""
        found: list[FloatArray] = []
        for first in range(0, len(PROBES), self.most_rows):
            some = list(PROBES[first : first + self.most_rows])
            found.append(self._embed(some, self._settings.parameters, self._settings.prompt))
            if len(found[-1]) != len(some) or not np.isfinite(found[-1]).all() or found[-1].shape[1] != found[0].shape[1]:
                raise Faulty(f"{self._settings.url} gave no vectors of one length for the texts by which its model is known")
        return np.concatenate(found)

    def _check(self, found: FloatArray, count: int) -> None:
        dim, pinned = self.facts().dim, self._pinned
        if len(found) != count:
            raise Faulty(f"{self._settings.url} gave {len(found):,} vectors for {count:,} texts")
        if found.shape[1] != dim:
            raise Faulty(f"{self._settings.url} gave vectors of {found.shape[1]:,} numbers, and its model's have {dim:,}")
        if pinned and distance(found[0, :NUMBERS].tolist(), pinned.canary) > CANARY_APART:
            raise Faulty(f"{self._settings.url} gave another vector than ever for a text that goes with each request")

    def _patiently(self, texts: list[str], parameters: Mapping[str, JsonValue], prompt: str | None, *, alone: bool = False) -> FloatArray:
        backoff = self._backoff(self._patience)
        while True:
            if self._broken:
                raise self._broken
            try:
                with self.in_flight.slot(alone=alone):
                    found = self._embed(texts, parameters, prompt)
            except ServerBusy as error:
                self.waits_for = f"the encoder's server: {error}"
                self.in_flight.too_busy(min(error.seconds or 0.0, self._patience))
                if not backoff.wait(error.seconds):
                    raise Transient(f"the encoder's server has been too busy for {self._patience:,.0f} s: {error}") from error
            else:
                self.waits_for = ""
                return found

    def _embed(self, texts: list[str], parameters: Mapping[str, JsonValue], prompt: str | None) -> FloatArray:
        """As they are kept: cut and scaled."""
        if self._closing.is_set():
            raise Transient("the encoder is closed: the run is ending")
        settings = self._settings
        found = self._api.embed([f"{prompt}{text}" for text in texts] if prompt else texts, parameters)
        vectors = found[:, : settings.truncate_dim]
        if not settings.normalize:
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

    def _backoff(self, seconds: float) -> Backoff:
        policy = self._policy
        return Backoff(policy=policy, deadline=policy.clock() + seconds, pause=policy.first)
