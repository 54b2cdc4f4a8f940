"""WebDataset: tars of samples. Members that share their name up to the first dot are a sample (`tasks.adapters.sources.tar_samples`).

A tar is a shard. The key is the shared name with its folders. Keys of the sample's .json are columns; `txt` is
the caption, or the value of `caption_key` in the .json.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.access import guard_unchanged, reading, require_rows
from tasks.adapters.files.compression import with_packed
from tasks.adapters.rows.batch_findings import with_findings
from tasks.adapters.rows.column_types import check_columns, from_objects, lenient_json
from tasks.adapters.rows.inferred_types import type_of_values
from tasks.adapters.rows.row_schema import IMAGE, KEY_COLUMN, REASON_COLUMN, TEXT_COLUMN
from tasks.adapters.sources.source_files import ColumnSurvey, SourceFiles, spread
from tasks.adapters.sources.tar_reader import check_whole, members
from tasks.adapters.sources.tar_samples import WINDOW_SAMPLES, MemberPart, TarSample, join_samples, part_of_name
from tasks.adapters.sources.text_files.line_reader import BOM, LINE_NOT_UTF8
from tasks.domain.errors import BadInput, KitestringError
from tasks.domain.job.source import WebDatasetSource
from tasks.domain.shards.findings import Findings
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole

SUFFIXES = (*with_packed(".tar"), ".tgz", ".tbz2", ".txz")
CAPTION = "txt"
CAPTION_KEYS = ("caption", "text", "txt")  # usual keys of other programs
HEAD_SAMPLES = 32
MEMBER = 1_024  # average bytes of a tar around a member: its header, and the padding of its last block
BATCH_ROWS = 1_024
BATCH_BYTES = 32 << 20


@dataclass(slots=True)
class TarRow:
    """A sample as a row."""

    key: str
    image: bytes | None = None
    caption: bytes | None = None
    reason: str | None = None
    size: int = 0
    values: dict[str, object] = field(default_factory=dict)


class WebDatasetFiles(SourceFiles[WebDatasetSource]):
    """WebDataset tars below a URI."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        file = self.first(SUFFIXES)
        with reading(file.path, "tar file"):
            if file.size:
                check_whole(file)
            head = self._first(file.path)
        if not head:
            raise BadInput(f"{file.path} has no samples from which the columns could be read: give another tar first")
        keys = dict.fromkeys([CAPTION, *(key for sample in head for key in sample.values)])
        check_columns(filter(None, [self.config.caption_key]), list(keys), file.path)
        self._check_captions(head, file.path)
        survey = ColumnSurvey(wanted)
        if survey.wants(CAPTION):
            survey.add(CAPTION, "varchar", file.name)
        if wanted is None or set(wanted) - {CAPTION}:
            for each, samples in ahead(lambda each: (each, self._head(each)), spread(survey.listed(self.listed(SUFFIXES)))):
                for key in dict.fromkeys(key for sample in samples for key in sample.values if key != CAPTION):
                    if survey.wants(key):
                        survey.add(key, type_of_values(sample.values.get(key) for sample in samples), each.name)
        return survey

    def _head(self, file: FileVersion) -> list[TarRow]:
        """Return the first samples of a tar without their images; none if it cannot be read."""
        with suppress(KitestringError), reading(file.path, "tar file"):
            return self._first(file.path)
        return []

    def _first(self, path: str) -> list[TarRow]:
        return list(islice(self._samples(path, frozenset(("caption", "json")), 2 * HEAD_SAMPLES), HEAD_SAMPLES))

    def _check_captions(self, head: list[TarRow], path: str) -> None:
        """Refuse a job that would miss captions in the .json, where img2dataset writes them."""
        if self.config.embed == "image" or self.config.caption_key or any(CAPTION in sample.values for sample in head):
            return
        keys = [key for key in CAPTION_KEYS if any(isinstance(sample.values.get(key), str) for sample in head)]
        if keys:
            raise BadInput(
                f"the samples of {path} have no .txt to embed, and their .json has '{keys[0]}': set source.caption_key: {keys[0]}"
            )

    def spans(self) -> Iterator[Span]:
        return require_rows(self._spans(), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return guard_unchanged(shard.span.files, self._batches(shard.span.files[0]))

    def rows_in_head(self, file: FileVersion, *, seen: int, read: int) -> tuple[int, int]:
        return seen, min(file.size, read + seen * MEMBER)

    def _spans(self) -> Iterator[Span]:
        for file, whole in ahead(lambda file: (file, _is_whole(file)), self.files(SUFFIXES)):
            if self.is_read(file, whole):
                yield Span(files=(file,), extent=Whole(), rows=None)

    def _batches(self, file: FileVersion) -> Iterator[pa.RecordBatch]:
        samples: list[TarRow] = []
        size, found = 0, Findings()
        with reading(file.path, "tar file"):
            for sample in self._samples(file.path, self._wanted(), found=found):
                samples.append(sample)
                size += sample.size
                if len(samples) >= BATCH_ROWS or size >= BATCH_BYTES:
                    yield self._batch(samples)
                    samples, size = [], 0
            if samples:
                yield self._batch(samples)
            if findings := tuple(finding.model_copy(update={"example": f"{finding.example} in {file.name}"}) for finding in found.all()):
                yield with_findings(self._batch([]), findings)

    def _wanted(self) -> frozenset[MemberPart]:
        """Return the parts of a sample that the job reads."""
        config = self.config
        caption = (config.embed == "text" and config.caption_key is None) or CAPTION in config.scalars
        json = config.caption_key is not None or bool(set(config.scalars) - {CAPTION})
        parts: dict[MemberPart, bool] = {"image": config.embed == "image", "caption": caption, "json": json}
        return frozenset(part for part, wanted in parts.items() if wanted)

    def _samples(
        self, path: str, wanted: frozenset[MemberPart], window: int = WINDOW_SAMPLES, found: Findings | None = None
    ) -> Iterator[TarRow]:
        tar_members = members(path, lambda name: part_of_name(name) in wanted)
        return (_row(sample) for sample in join_samples(tar_members, wanted, window=window, found=found))

    def _batch(self, samples: list[TarRow]) -> pa.RecordBatch:
        columns = from_objects([sample.values for sample in samples], self.config.scalars)
        if self.config.embed == "image":
            content, data = pa.field(IMAGE, pa.large_binary()), [sample.image for sample in samples]
        else:
            content, data = pa.field(TEXT_COLUMN, pa.binary()), [self._caption(sample) for sample in samples]
        keys = pa.array([sample.key for sample in samples], pa.string())
        reasons = pa.array([sample.reason for sample in samples], pa.string())
        fields = [pa.field(KEY_COLUMN, pa.string()), content, pa.field(REASON_COLUMN, pa.string()), *(f for f, _ in columns.values())]
        arrays = [keys, pa.array(data, content.type), reasons, *(array for _, array in columns.values())]
        return pa.record_batch(arrays, schema=pa.schema(fields))

    def _caption(self, sample: TarRow) -> bytes | None:
        key = self.config.caption_key
        if key is None:
            return sample.caption
        value = sample.values.get(key)
        if value is not None and not isinstance(value, str):
            sample.reason = sample.reason or f"caption is no text: '{key}' of the sample's .json"
        return value.encode() if isinstance(value, str) else None


def _row(sample: TarSample) -> TarRow:
    """Convert a sample to a row, with its .json and caption as columns."""
    image, caption = sample.parts.get("image") or None, sample.parts.get("caption")
    caption = caption.removeprefix(BOM) if caption is not None else None
    row = TarRow(sample.key, image=image, caption=caption, reason=sample.reason or sample.ambiguous(), size=sample.size)
    if (text := sample.parts.get("json")) is not None:
        try:
            values = lenient_json(text)
        except (ValueError, RecursionError) as error:
            row.reason = row.reason or f"metadata: the .json of the sample is not JSON ({error})"
            values = {}
        row.values = values if isinstance(values, dict) else {}
    if caption is not None:
        try:
            row.values = {**row.values, CAPTION: caption.decode()}
        except UnicodeDecodeError:
            row.reason = row.reason or LINE_NOT_UTF8
    return row


def _is_whole(file: FileVersion) -> bool:
    """Return whether a tar has members and its end is intact."""
    with reading(file.path, "tar file"):
        return bool(file.size and check_whole(file))
