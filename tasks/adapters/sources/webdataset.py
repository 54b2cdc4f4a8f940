"""WebDataset: tars of samples. Members that stand together and share their name up to the first dot are a sample.

A tar is a shard. The key is that shared name with its folders. Keys of the sample's .json are columns; `txt` is
the caption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.access import first_file, hold_still, is_compressed, reading, some
from tasks.adapters.rows.column_types import check_columns, from_objects, json_value, type_of_values
from tasks.adapters.rows.row_schema import IMAGE, KEY_COLUMN, REASON_COLUMN, TEXT_COLUMN
from tasks.adapters.sources.images import ENDS
from tasks.adapters.sources.line_reader import LINE_NOT_UTF8
from tasks.adapters.sources.source_files import SourceFiles
from tasks.adapters.sources.tar_reader import LARGEST_MEMBER, Member, check_whole, members
from tasks.domain.errors import BadInput
from tasks.domain.job.source import WebDatasetSource
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole
from tasks.domain.target.fields import FieldType

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
CAPTION = "txt"
HEAD_SAMPLES = 32
MEMBER = 1_024  # bytes of a tar around a member, on average: its header, and what fills its last block
BATCH_ROWS = 1_024
BATCH_BYTES = 32 << 20


@dataclass(slots=True)
class TarSample:
    """The members of one key."""

    key: str
    image: bytes | None = None
    caption: bytes | None = None
    json: bytes | None = None
    reason: str | None = None
    size: int = 0
    values: dict[str, object] = field(default_factory=dict)


class WebDatasetFiles(SourceFiles[WebDatasetSource]):
    """WebDataset tars below a URI."""

    def inspect(self) -> dict[str, FieldType]:
        file = first_file(self.config.uri, SUFFIXES)
        with reading(file.path, "tar file"):
            if file.size and not is_compressed(file.path):
                check_whole(file)
            head = list(islice(self._samples(file.path, everything=True), HEAD_SAMPLES))
        if not head:
            raise BadInput(f"{file.path} has no samples from which the columns could be read: give another tar first")
        keys = list(dict.fromkeys([CAPTION, *(key for sample in head for key in sample.values)]))
        check_columns(self.config.metadata, keys, file.path)
        return {key: "varchar" if key == CAPTION else type_of_values(s.values.get(key) for s in head) for key in keys}

    def spans(self) -> Iterator[Span]:
        return some(self._spans(), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return hold_still(shard.span.files, self._batches(shard.span.files[0]))

    def rows_in_head(self, file: FileVersion, *, seen: int, read: int) -> tuple[int, int]:
        return seen, min(file.size, read + seen * MEMBER)

    def _spans(self) -> Iterator[Span]:
        for file, whole in ahead(lambda file: (file, _is_whole(file)), self.files(SUFFIXES)):
            if self.is_read(file, whole):
                yield Span(files=(file,), extent=Whole(), rows=None)

    def _batches(self, file: FileVersion) -> Iterator[pa.RecordBatch]:
        held: list[TarSample] = []
        size = 0
        with reading(file.path, "tar file"):
            for sample in self._samples(file.path, everything=False):
                held.append(sample)
                size += sample.size
                if len(held) >= BATCH_ROWS or size >= BATCH_BYTES:
                    yield self._batch(held)
                    held, size = [], 0
            if held:
                yield self._batch(held)

    def _samples(self, path: str, *, everything: bool) -> Iterator[TarSample]:
        """Samples with what the job wants of them, or with all but the picture."""
        images = self.config.embed == "image" and not everything
        caption = everything or self.config.embed == "text" or CAPTION in self.config.metadata
        values = everything or bool(set(self.config.metadata) - {CAPTION})
        ends = {*(ENDS if images else ()), *((CAPTION,) if caption else ()), *(("json",) if values else ())}
        sample: TarSample | None = None
        for member in members(path, lambda name: _end(name) in ends):
            key = _key(member.name)
            if sample is not None and sample.key != key:
                yield _whole(sample)
                sample = None
            sample = sample or TarSample(key)
            _add(sample, member, wanted=_end(member.name) in ends)
        if sample is not None:
            yield _whole(sample)

    def _batch(self, samples: list[TarSample]) -> pa.RecordBatch:
        columns = from_objects([sample.values for sample in samples], self.config.metadata)
        if self.config.embed == "image":
            content, data = pa.field(IMAGE, pa.large_binary()), [sample.image for sample in samples]
        else:
            content, data = pa.field(TEXT_COLUMN, pa.binary()), [sample.caption for sample in samples]
        keys = pa.array([sample.key for sample in samples], pa.string())
        reasons = pa.array([sample.reason for sample in samples], pa.string())
        fields = [pa.field(KEY_COLUMN, pa.string()), content, pa.field(REASON_COLUMN, pa.string()), *(f for f, _ in columns.values())]
        arrays = [keys, pa.array(data, content.type), reasons, *(array for _, array in columns.values())]
        return pa.record_batch(arrays, schema=pa.schema(fields))


def _is_whole(file: FileVersion) -> bool:
    """Whether there is something in it, and its end as well."""
    with reading(file.path, "tar file"):
        return bool(file.size and (is_compressed(file.path) or check_whole(file)))


def _key(name: str) -> str:
    folder, slash, base = name.removeprefix("./").rpartition("/")
    return f"{folder}{slash}{base.split('.', 1)[0]}"


def _end(name: str) -> str:
    return name.rsplit("/", 1)[-1].partition(".")[2].lower()


def _add(sample: TarSample, member: Member, *, wanted: bool) -> None:
    if not wanted:
        return
    if member.data is None:
        sample.reason = f"too large: {member.name} has {member.size} bytes, {LARGEST_MEMBER} are read at most"
        return
    sample.size += member.size
    end = _end(member.name)
    if end == CAPTION:
        sample.caption = member.data
    elif end == "json":
        sample.json = member.data
    elif sample.image is None:
        sample.image = member.data or None


def _whole(sample: TarSample) -> TarSample:
    """Read the sample's .json and caption into its columns."""
    if sample.json is not None:
        try:
            values = json_value(sample.json)
        except ValueError as error:
            sample.reason = sample.reason or f"metadata: the .json of the sample is not JSON ({error})"
            values = {}
        sample.values = values if isinstance(values, dict) else {}
    if sample.caption is not None:
        try:
            sample.values = {**sample.values, CAPTION: sample.caption.decode()}
        except UnicodeDecodeError:
            sample.reason = sample.reason or LINE_NOT_UTF8
    return sample
