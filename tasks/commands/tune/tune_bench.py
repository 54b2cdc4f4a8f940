"""What all trials of a command share: the job, a sample of its rows, and this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.adapters.engines.tuning.trial_ranks import TrialRanks, open_trial
from tasks.adapters.processes.hardware import Launch, launch_for, machine
from tasks.adapters.processes.memory_limit import memory_limit
from tasks.adapters.processes.scratch import scratch_folder
from tasks.adapters.sources.sampling import Effort, Sampler, weight_of
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.encoding.tune.trials import TrialSettings
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import ENCODERS, TORCHRUN
from tasks.domain.job.job import Job
from tasks.domain.number_format import number
from tasks.run.estimate.sampled_rows import rows_for_ranks
from tasks.run.plan import spool_spans
from tasks.run.preflight import Inspected, inspect_job

SAMPLED_AT_A_PLACE = {"text": 512, "image": 32}  # rows at each place of the sample
MOST_SAMPLED_BYTES = 256 << 20
ComparedVectors = npt.NDArray[np.float32]


@dataclass(slots=True, kw_only=True)
class TuneBench:
    """Opens trials one after another. `vectors`: of the compared rows, by backend and precision."""

    inspected: Inspected
    spec: EncodingSpec
    rows: pa.Table
    launch: Launch
    memory: int | None
    scratch: Path
    vectors: dict[tuple[str, str], ComparedVectors] = field(default_factory=dict)
    _trials: int = 0

    @property
    def job(self) -> Job:
        """The job to tune."""
        return self.inspected.job

    @property
    def processor(self) -> str:
        """The names of the processors that encode."""
        processors = machine(self.launch)["processors"]
        return ", ".join(sorted({str(name) for name in processors})) if isinstance(processors, list) else ""

    @contextmanager
    def trial(self, settings: TrialSettings) -> Iterator[TrialRanks]:
        """Start ranks with some settings. On exit they are stopped, and all that they wrote is removed."""
        self._trials += 1
        folder = self.scratch / f"t{self._trials}"
        folder.mkdir()
        with open_trial(self.spec, settings, self.rows, scratch=folder, store=self.inspected.store, model=self.inspected.model) as ranks:
            yield ranks

    def notes(self) -> list[str]:
        """Notes on the limits of the measurement."""
        unit = "chunks of documents" if self.job.source.chunking else "rows"
        notes = [f"measured on a sample of {number(self.rows.num_rows)} {unit} from the whole source"]
        if self.job.compute.engine.kind != "local":
            notes.append(f"this machine was measured; the hosts of the {self.job.compute.engine.kind} cluster may differ")
        return notes


@contextmanager
def open_bench(job: Job) -> Iterator[TuneBench]:
    """Check the job and sample its rows.

    Raises:
        BadInput: something that the job names is missing, its source has no row that can be embedded, or its encoder uses no ranks.
    """
    if ENCODERS[job.encoder.kind].encoders != TORCHRUN:
        raise BadInput(f"encoder.kind '{job.encoder.kind}' starts no ranks on this machine, so there is nothing to tune here")
    with scratch_folder() as scratch:
        inspected = inspect_job(job)
        launch = launch_for(job)
        spec = EncodingSpec(
            run="tune",
            job=job,
            fields=inspected.collection_fields,
            weights=inspected.model.weights,
            declared=inspected.declared,
            pinned=inspected.pinned(),
            dry=True,
        )
        rows = _sampled_rows(inspected, scratch)
        yield TuneBench(inspected=inspected, spec=spec, rows=rows, launch=launch, memory=memory_limit(launch), scratch=scratch)


def _sampled_rows(inspected: Inspected, scratch: Path) -> pa.Table:
    job, spool = inspected.job, spool_spans(inspected, scratch)
    effort = Effort(rows=SAMPLED_AT_A_PLACE[job.source.modality], bytes=MOST_SAMPLED_BYTES)
    whole = sum(weight_of(shard.span) for shard in spool.named(""))
    sample = Sampler(inspected.source, inspected.fields, job.target, effort).take((shard.span for shard in spool.named("")), whole)
    if not sample.rows:
        why = sample.faults[0] if sample.faults else "none of the sampled rows can be embedded"
        raise BadInput(f"source.uri: '{job.source.uri}' has no row to measure with: {why}")
    return rows_for_ranks(inspected, sample)
