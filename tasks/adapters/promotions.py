"""The moves of an alias, kept beside the encoders of a corpus: numbered objects that are written once."""

from __future__ import annotations

from itertools import count

from tasks.adapters.documents import commit_document, read_document
from tasks.domain.collection import target_fingerprint
from tasks.domain.job import Job
from tasks.domain.layout import promotion
from tasks.domain.ports import Store
from tasks.domain.promotion import Promotion, is_written


class Promotions:
    """What a job's alias led to, whatever encoder was behind it."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store, self._corpus = store, job.corpus
        self._alias = target_fingerprint(job.target, job.target.collection)

    def read(self) -> list[Promotion]:
        """Every move, in order."""
        found: list[Promotion] = []
        for number in count(1):
            move = read_document(self._store, self._key(number), Promotion)
            if move is None:
                break
            found.append(move)
        return found

    def note(self, move: Promotion) -> None:
        """Write a move down before it is made; one that a kill cut short stands there already."""
        while not is_written(history := self.read(), move):
            commit_document(self._store, self._key(len(history) + 1), move)

    def _key(self, number: int) -> str:
        return promotion(self._corpus, self._alias, number)
