"""The moves of an alias, kept beside the encoders of a corpus: numbered objects that are written once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import count

from tasks.adapters.documents import commit_document, read_document
from tasks.domain.collection import target_fingerprint
from tasks.domain.job import Job
from tasks.domain.layout import promotion, promotions
from tasks.domain.ports import Store
from tasks.domain.promotion import Promotion, is_written


class Promotions:
    """What a job's alias led to, whatever encoder was behind it.

    Moves are kept by the address of the alias. One collection is reached by many addresses, so that moves that were written
    under another spelling belong to the history as well: those that led to a collection which stands here now.
    """

    def __init__(self, store: Store, job: Job) -> None:
        self._store, self._corpus = store, job.corpus
        self._alias = target_fingerprint(job.target, job.target.collection)

    def read(self, *, standing: Iterable[str] = ()) -> list[Promotion]:
        """Every move, in the order of time. `standing`: identities of collections that are at the target."""
        here, own = set(standing) - {""}, self._own()
        others = [moves for alias, moves in self._others().items() if here & {move.ledger for move in moves}]
        return sorted((move for moves in (own, *others) for move in moves), key=lambda move: move.at) if others else own

    def of_encoder(self, fingerprint: str) -> list[Promotion]:
        """Every move to a collection of an encoder, whatever alias and address, in the order of time."""
        moves = [move for moves in (self._own(), *self._others().values()) for move in moves]
        return sorted((move for move in moves if move.fingerprint == fingerprint), key=lambda move: move.at)

    def note(self, move: Promotion) -> None:
        """Write a move down before it is made; one that a kill cut short stands there already."""
        while not is_written(history := self._own(), move):
            commit_document(self._store, self._key(len(history) + 1), move)

    def _own(self) -> list[Promotion]:
        found: list[Promotion] = []
        for number in count(1):
            move = read_document(self._store, self._key(number), Promotion)
            if move is None:
                break
            found.append(move)
        return found

    def _others(self) -> dict[str, list[Promotion]]:
        found: dict[str, list[Promotion]] = defaultdict(list)
        folder = promotions(self._corpus)
        for stored in self._store.list(folder):
            alias = stored.key.removeprefix(folder).partition("/")[0]
            if alias != self._alias and (move := read_document(self._store, stored.key, Promotion)):
                found[alias].append(move)
        return found

    def _key(self, number: int) -> str:
        return promotion(self._corpus, self._alias, number)
