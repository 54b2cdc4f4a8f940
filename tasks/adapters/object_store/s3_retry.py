"""How calls to S3 are tried again. This is the one retry owner of the checkpoint's bucket: the SDK never retries."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tasks.adapters.object_store.s3_client import FAILURES, Verdict, answered, code_of, cure, endpoint_of, verdict
from tasks.domain.errors import BadInput, Transient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
STRANGER_TRIES = 3  # enough for a lost packet; a mistyped address should be told soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Exponential waits, half of each at random (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter, "equal jitter")."""

    tries: int = 8  # every refusal of 23 s is waited out, some of 47 s
    first_wait: float = 0.5  # seconds
    longest_wait: float = 16.0
    sleep: Callable[[float], None] = time.sleep
    share: Callable[[], float] = random.random

    def wait(self, attempt: int) -> None:
        """Wait after the failed try number `attempt`, counted from 0."""
        if attempt + 1 < self.tries:
            self.sleep((1 + self.share()) / 2 * min(self.longest_wait, self.first_wait * 2**attempt))


class Calls:
    """Calls to one bucket.

    Args:
        client: as `tasks.adapters.object_store.s3_client.connect` makes it.
        bucket: told in messages.
        patience: how calls are tried again.
        proven: the server has answered before, so silence is a passing fault and not a wrong address.
    """

    def __init__(self, client: S3Client, bucket: str, patience: Patience, *, proven: bool) -> None:
        self.patience = patience
        self._place = f"bucket '{bucket}' at {endpoint_of(client)}"
        self._proven = proven

    def run(self, call: Callable[[], T]) -> T:
        """The call's result, after as many tries as it takes; only for calls that may be made twice.

        Raises:
            Transient: busy, silent or out of reach, after all tries.
            BadInput: refused; or silent from the first.
        """
        last: Exception = Exception()
        for attempt in range(self.patience.tries):
            try:
                result = call()
            except FAILURES as error:
                last = error
                self.weigh(error, attempt)
                self.patience.wait(attempt)
            else:
                self.reached()
                return result
        raise self.passing(last)

    def weigh(self, error: Exception, attempt: int) -> Verdict:
        """What a failed try means for the next one.

        Raises:
            BadInput: that there should be none.
        """
        means = verdict(error)
        self._proven = self._proven or answered(error)
        hopeless = means in ("unreachable", "unanswered") and not self._proven and attempt + 1 >= STRANGER_TRIES
        if means == "refused" or hopeless:
            raise BadInput(f"{self._place}: {cure(error)}") from None
        return means

    def reached(self) -> None:
        """The server has answered."""
        self._proven = True

    def passing(self, error: Exception) -> Transient:
        """What is raised when all tries are used up."""
        return Transient(f"{self._place}: no success in {self.patience.tries} tries ({code_of(error)})")
