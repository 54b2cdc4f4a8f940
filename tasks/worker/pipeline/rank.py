"""The loop of a rank: encodes a piece while the next one is prepared and the previous one is written."""

from __future__ import annotations

from tasks.domain.encoding.protocol import Assignment
from tasks.domain.errors import KitestringError
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.ports import Store
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoding_errors import Fatal
from tasks.worker.pipeline.coordinator_client import CoordinatorClient, fault_of, unexpected_error
from tasks.worker.pipeline.fault_isolation import FaultIsolatingRunner
from tasks.worker.pipeline.part_writer import PartWriter
from tasks.worker.pipeline.piece_encoder import PieceEncoder
from tasks.worker.pipeline.piece_reader import FailedPiece, PieceReader, PreparedPiece
from tasks.worker.system.memory import give_back
from tasks.worker.system.signals import ShutdownSignal


class Rank:
    """Takes pieces until there are no more, or until SIGTERM."""

    def __init__(
        self, coordinator: CoordinatorClient, encoder: LoadedEncoder, store: Store, assignment: Assignment, shutdown: ShutdownSignal
    ) -> None:
        store_text = assignment.store_text and assignment.modality == "text"
        counted = assignment.modality == "text" and ENCODERS[assignment.encoder.kind].counts_tokens
        unit = "tokens" if counted else {"text": "text", "image": "picture"}[assignment.modality]
        self._coordinator, self._shutdown = coordinator, shutdown
        self._reader = PieceReader(coordinator, encoder)
        sparse = ENCODERS[assignment.encoder.kind].sparse
        self._writer = PartWriter(coordinator, store, assignment.fields, store_text=store_text, sparse=sparse)
        runner = FaultIsolatingRunner(encoder.encode, unit=unit)
        self._pieces = PieceEncoder(runner, encoder.facts().dim, coordinator.send, shutdown.allows, sparse=sparse)

    def work(self) -> None:
        """Encode pieces until NoMoreWork, SIGTERM or a closed connection; all encoded parts are in the store on return.

        Raises:
            Fatal: this process must exit.
        """
        self._shutdown.listen(self._reader.wake)
        self._reader.open()
        while (taken := self._reader.take()) is not None and not self._shutdown.received:
            self._process(taken)
        self._writer.drain()

    def _process(self, taken: PreparedPiece | FailedPiece) -> None:
        if isinstance(taken, FailedPiece):
            self._report_failed(taken)
            return
        try:
            encoded = self._pieces.encode(taken)
        except KitestringError as error:
            self._coordinator.send(fault_of(error, taken.piece.key))
            return
        if encoded is not None:
            self._writer.put(encoded)
        give_back()

    def _report_failed(self, failed: FailedPiece) -> None:
        """Report a piece that could not be prepared: a crash here would be attributed to the rows of the previous piece."""
        if isinstance(failed.error, Fatal | KeyboardInterrupt | SystemExit):
            raise failed.error
        error = failed.error
        known = error if isinstance(error, KitestringError) else unexpected_error(error, "cannot prepare the rows")
        self._coordinator.send(fault_of(known, failed.piece.key))
