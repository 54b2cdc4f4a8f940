"""A served model: identifies the model behind a server, and accepts vectors only from the pinned model.

Every request includes a canary, a text with a known vector. An answer with another vector for it is refused, whichever server behind a
load balancer sent it, and however recently the server was identified.
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
FIRST_CONTACT = 20.0  # seconds to wait for any answer at a run's start: a wrong address is reported soon
# For a server that refuses the probe texts, which have up to 130 characters: vLLM refuses texts longer than its model reads.
REFUSED_CURE = (
    "correct the encoder's settings; if the model reads fewer tokens than the texts have that identify it, let vLLM truncate"
    " texts, with encoder.parameters: {truncate_prompt_tokens: -1}"
)
USUAL_ROWS = 32  # in a request, if the server does not report its limit


class ServedModel:
    """A server's model. Thread-safe.

    Args:
        encoder: its settings.
        pinned: the identity that the model must have; None: the first one that answers is pinned.
        patience: seconds to wait for an answer, and for a server that is down.
        startup: seconds to wait at the start for a server that reports that it is busy.
        batch_rows: most texts in a request, if the job sets it.
        whole: have the server refuse rows that it would truncate, if its API can.
        policy: the waits between attempts.
        share: returns the limit of requests in flight from this host if other hosts use the server, too; None: only the settings apply.
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
        self._identified_at = self._failed_to_answer_at = -math.inf
        self._broken: Permanent | None = None  # why no more vectors are accepted
        self.most_rows = 1
        self.waits_for = ""

    def facts(self) -> EncoderFacts:
        """The model's facts. The first call identifies the model, and waits for the server.

        Raises:
            BadInput: the server does not answer, or serves another model than the pinned one; says what to change.
            Transient: the server was too busy all the time.
        """
        with self._asking:
            if self._facts is None:
                self._facts = self._identify()
        return self._facts

    def embed_rows(self, texts: list[str], *, alone: bool = False) -> FloatArray:
        """The vectors of some rows' texts: float32 of shape (texts, dim), possibly not finite. Retries only while the server is busy.

        Args:
            texts: at most `most_rows`.
            alone: send while no other request is in flight.

        Raises:
            NoVectors: there are none; `confirm` helps to find out whether the server or the texts are at fault.
            Transient: the server has been too busy for too long.
            Permanent: another model is served now, or the server no longer accepts the token.
        """
        self.facts()
        with self._bad_input_is_permanent():
            vectors = self._embed_when_free([PROBES[0], *texts], self._parameters, self._settings.prompt, alone=alone)
        self._check(vectors, len(texts) + 1)
        self.in_flight.answered(sum(map(len, texts)))
        return vectors[1:]

    def embed_questions(self, texts: list[str]) -> FloatArray:
        """The vectors of questions: float32 of shape (texts, dim), finite.

        Raises:
            Transient: the server returns no vectors at the moment.
            BadInput: the server refuses the questions.
        """
        settings, dim = self._settings, self.facts().dim
        parameters = settings.parameters if settings.query_parameters is None else settings.query_parameters
        batches: list[FloatArray] = []
        for first in range(0, len(texts), self.most_rows):
            some = texts[first : first + self.most_rows]
            try:
                vectors = self._embed_when_free(some, parameters, settings.query_prompt)
            except Refused as error:
                raise BadInput(f"the query has no vector: {error}") from error
            except NoVectors as error:
                raise Transient(str(error)) from error
            if vectors.shape != (len(some), dim) or not np.isfinite(vectors).all():
                raise Transient(f"{settings.url} returned no vectors of {dim:,} numbers for the queries")
            batches.append(vectors)
        return np.concatenate(batches) if batches else np.zeros((0, dim), np.float32)

    def confirm(self, failed_at: float) -> bool:
        """After a failed request: wait until the server answers, and check that it serves the pinned model.

        Args:
            failed_at: when the request was sent; skips the check if the server was identified since then.

        Returns:
            Whether the server was down since then, whatever its answer to that request (vLLM: 500, as its engine dies).

        Raises:
            Permanent: it serves another model.
            Transient: it did not answer within the patience.
        """
        with self._asking:
            if self._broken:
                raise self._broken
            if self._identified_at <= failed_at:
                with self._bad_input_is_permanent():
                    self._identify()
            return self._failed_to_answer_at >= failed_at

    @contextmanager
    def _bad_input_is_permanent(self) -> Iterator[None]:
        """Convert BadInput during a run to Permanent: BadInput would delete the parts of the shard, which are good."""
        try:
            yield
        except BadInput as error:
            self._broken = self._broken or Permanent(str(error))
            raise self._broken from error

    def now(self) -> float:
        """The time, for `confirm`."""
        return self._clock()

    def close(self) -> None:
        """End all waits; requests in flight and later ones fail."""
        self._closing.set()
        self._connection.close()

    def _sleep(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise Transient("the encoder is closed: the run is ending")

    def _identify(self) -> EncoderFacts:
        """Identify the server's model, with retries until it answers."""
        began, first = self._clock(), self._facts is None
        backoff = self._backoff(self._startup if first else self._patience)
        while True:
            try:
                return self._identify_once()
            except NoVectors as error:
                self.waits_for = f"the encoder's server: {error}"
                if isinstance(error, Refused):
                    raise BadInput(f"encoder: {error}: {REFUSED_CURE}") from error
                if isinstance(error, Unanswered) and first and self._clock() - began > min(FIRST_CONTACT, self._startup):
                    raise BadInput(f"encoder.url: {error}: start the server, or correct the encoder's settings") from error
                if not isinstance(error, ServerBusy):
                    self._failed_to_answer_at = self._clock()
                if not backoff.wait(error.seconds if isinstance(error, ServerBusy) else None):
                    raise Transient(f"the encoder's server returned no vectors for {self._clock() - began:,.0f} s: {error}") from error
                if self._closing.is_set():
                    raise Transient("the encoder is closed: the run is ending") from error

    def _identify_once(self) -> EncoderFacts:
        began, described = self._clock(), self._api.describe()
        self._settle_rows(described)
        vectors = self._embed_probes()
        identity = served_identity(described.properties, vectors.tolist())
        if other := other_server(identity, self._pinned):
            raise BadInput(
                f"encoder: {self._settings.url} serves another model than the one this corpus was embedded with: {other}."
                " No vectors were mixed: serve that model again, or set encoder.revision to a new name to embed the corpus anew"
            )
        self._pinned, self._identified_at, self.waits_for = self._pinned or identity, began, ""
        return EncoderFacts(
            dim=vectors.shape[1],
            max_seq_length=described.most_tokens,
            precision="float32",
            device=f"{self._settings.api} server",
            server=self._pinned,
        )

    def _settle_rows(self, described: Described) -> None:
        """Set the rows per request; one place in each request is reserved for the canary."""
        most = min(self._batch_rows or described.most_rows or USUAL_ROWS, described.most_rows or self._batch_rows or USUAL_ROWS)
        self.most_rows = max(1, most - 1)

    def _embed_probes(self) -> FloatArray:
        """The vectors of PROBES, in requests of at most `most_rows` texts."""
        batches: list[FloatArray] = []
        for first in range(0, len(PROBES), self.most_rows):
            some = list(PROBES[first : first + self.most_rows])
            batches.append(self._embed(some, self._settings.parameters, self._settings.prompt))
            if len(batches[-1]) != len(some) or not np.isfinite(batches[-1]).all() or batches[-1].shape[1] != batches[0].shape[1]:
                raise Faulty(f"{self._settings.url} returned no vectors of equal length for the texts that identify its model")
        return np.concatenate(batches)

    def _check(self, vectors: FloatArray, count: int) -> None:
        dim, pinned = self.facts().dim, self._pinned
        if len(vectors) != count:
            raise Faulty(f"{self._settings.url} returned {len(vectors):,} vectors for {count:,} texts")
        if vectors.shape[1] != dim:
            raise Faulty(f"{self._settings.url} returned vectors of {vectors.shape[1]:,} numbers, but its model's have {dim:,}")
        if pinned and distance(vectors[0, :NUMBERS].tolist(), pinned.canary) > CANARY_APART:
            raise Faulty(f"{self._settings.url} returned a different vector than before for the text that is part of each request")

    def _embed_when_free(
        self, texts: list[str], parameters: Mapping[str, JsonValue], prompt: str | None, *, alone: bool = False
    ) -> FloatArray:
        backoff = self._backoff(self._patience)
        while True:
            if self._broken:
                raise self._broken
            try:
                with self.in_flight.slot(alone=alone):
                    vectors = self._embed(texts, parameters, prompt)
            except ServerBusy as error:
                self.waits_for = f"the encoder's server: {error}"
                self.in_flight.too_busy(min(error.seconds or 0.0, self._patience))
                if not backoff.wait(error.seconds):
                    raise Transient(f"the encoder's server has been too busy for {self._patience:,.0f} s: {error}") from error
            else:
                self.waits_for = ""
                return vectors

    def _embed(self, texts: list[str], parameters: Mapping[str, JsonValue], prompt: str | None) -> FloatArray:
        """The vectors as they are stored: truncated to `truncate_dim` and normalized."""
        if self._closing.is_set():
            raise Transient("the encoder is closed: the run is ending")
        settings = self._settings
        raw = self._api.embed([f"{prompt}{text}" for text in texts] if prompt else texts, parameters)
        vectors = raw[:, : settings.truncate_dim]
        if not settings.normalize:
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

    def _backoff(self, seconds: float) -> Backoff:
        policy = self._policy
        return Backoff(policy=policy, deadline=policy.clock() + seconds, pause=policy.first)
