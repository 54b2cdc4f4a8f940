"""The sample behind a report's map: from few parts, the same each time, and truthful about what two directions keep."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tasks.adapters.checkpoint.part_files import vector_column
from tasks.adapters.report.vector_map import BYTES, COLOUR_GROUPS, MAP_ROWS, PARTS, PartDraw, _groups, project, read_sample
from tasks.domain.report.figures import Projection
from tasks.domain.shards.seal import Part, Seal
from tasks.domain.target.fields import FieldType, ScalarField


def part_of(shard: str, first: int, rows: int, *, attempt: str = "a", size: int = 1_000) -> Part:
    key = f"corpus/fingerprint/shards/{shard}/{attempt}/part-{first:09d}-{first + rows:09d}.parquet"
    return Part(key=key, first=first, stop=first + rows, rows=rows, bytes=size, sha256="")


def seal_of(shard: str, *parts: Part) -> Seal:
    rows = sum(part.rows for part in parts)
    counts = {"source_rows": rows, "embedded": rows, "duplicates": 0, "quarantined": ()}
    return Seal(
        shard=shard,
        name=shard,
        group="g",
        run="r",
        attempt="a",
        dim=4,
        parts=parts,
        seconds=1.0,
        sealed_at="2026-11-21T00:00:00Z",
        **counts,
    )


def draw(*seals: Seal) -> list[Part]:
    drawn = PartDraw()
    for seal in seals:
        assert drawn.take(seal) is seal
    return drawn.parts()


def table_of(vectors: np.ndarray, **columns: list[object]) -> pa.Table:
    keys = [f"k{row}" for row in range(len(vectors))]
    return pa.table({"id": keys, "vector": vector_column(vectors.astype(np.float32)), **columns})


def test_a_corpus_of_any_size_is_sampled_from_few_parts_the_same_each_time() -> None:
    seals = [seal_of(f"s{n}", part_of(f"s{n}", 0, 500), part_of(f"s{n}", 500, 500)) for n in range(2_000)]
    parts = draw(*seals)
    assert len(parts) == PARTS
    assert draw(*reversed(seals)) == parts
    again = [seal_of(f"s{n}", part_of(f"s{n}", 0, 500, attempt="b"), part_of(f"s{n}", 500, 500, attempt="b")) for n in range(2_000)]
    assert [(part.first, part.key.split("/")[3]) for part in draw(*again)] == [(part.first, part.key.split("/")[3]) for part in parts]


def test_parts_have_a_chance_in_proportion_to_their_rows() -> None:
    small = [seal_of(f"small-{n}", part_of(f"small-{n}", 0, 1)) for n in range(500)]
    large = [seal_of(f"large-{n}", part_of(f"large-{n}", 0, 10_000)) for n in range(PARTS)]
    assert all("large" in part.key for part in draw(*small, *large))


def test_no_more_is_read_than_a_bound_but_always_one_part() -> None:
    heavy = [seal_of(f"s{n}", part_of(f"s{n}", 0, 100, size=BYTES // 2 - 1)) for n in range(PARTS)]
    assert len(draw(*heavy)) == 2
    assert len(draw(seal_of("s", part_of("s", 0, 100, size=9 * BYTES)))) == 1
    assert draw(seal_of("s", part_of("s", 0, 0))) == []


def test_what_a_small_part_lacks_larger_ones_give() -> None:
    parts = [part_of("small", 0, 10), part_of("large", 0, 5_000)]
    sizes = {part.key: part.rows for part in parts}
    read = [read_sample(parts, lambda part: table_of(np.zeros((sizes[part.key], 2)), shard=[part.key] * sizes[part.key])) for _ in range(2)]
    assert read[0] == read[1]
    assert read[0] is not None
    assert read[0].num_rows == MAP_ROWS
    assert read[0]["shard"].to_pylist().count(parts[0].key) == 10
    assert read_sample([], lambda _: table_of(np.zeros((1, 2)))) is None


def field(name: str, kind: FieldType = "varchar") -> ScalarField:
    return ScalarField(name=name, column=f"{name} column", type=kind)


def test_points_in_a_plane_keep_their_distances_and_all_of_the_variance() -> None:
    plane = np.array([[0, 0], [3, 0], [0, 1], [3, 1], [6, 0.5]])
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0][:2]
    found = project(table_of(plane @ turned), 8, (), None)
    assert found is not None
    assert sum(found.kept) == pytest.approx(1)
    assert found.kept[0] > found.kept[1] > 0
    places = np.array(found.groups[0].points)
    distances = [np.linalg.norm(points[:, None] - points[None], axis=2) for points in (plane, places)]
    assert np.allclose(*distances, atol=1e-3)


def test_what_is_lost_is_said_as_a_whole_decomposition_would() -> None:
    stretched = np.random.default_rng(1).standard_normal((2_000, 40)) * np.linspace(2, 1, 40)
    sizes = np.linalg.svd(stretched - stretched.mean(axis=0), compute_uv=False)
    found = project(table_of(stretched), 40, (), None)
    assert found is not None
    assert found.kept == pytest.approx(tuple((sizes**2 / (sizes**2).sum())[:2]), rel=1e-3)


@pytest.mark.parametrize("vectors", [np.zeros((0, 4)), np.eye(4)[:2], np.ones((50, 4)), np.full((50, 4), 0.1)])
def test_nothing_is_drawn_of_too_few_rows_or_of_one_place(vectors: np.ndarray) -> None:
    assert project(table_of(vectors), 4, (), None) is None


def coloured(fields: list[ScalarField], colour_by: str | None = None, **columns: list[object]) -> Projection:
    rows = len(next(iter(columns.values())))
    found = project(table_of(np.random.default_rng(2).standard_normal((rows, 4)), **columns), 4, fields, colour_by)
    assert found is not None
    return found


def test_the_first_field_with_few_values_gives_the_colours() -> None:
    columns: dict[str, list[object]] = {"url": [f"u{n}" for n in range(40)], "one": ["x"] * 40, "lang": ["en", "de", None, "en"] * 10}
    found = coloured([field("url"), field("one"), field("lang")], **columns)
    assert found.field == "lang column"
    assert [(group.name, len(group.points)) for group in found.groups] == [("en", 20), ("(none)", 10), ("de", 10)]


def test_a_field_that_is_asked_for_is_taken_and_its_rare_values_are_one_group() -> None:
    columns: dict[str, list[object]] = {"lang": ["en", "de"] * 20, "url": ["often"] * 20 + [f"u{n}" for n in range(20)]}
    found = coloured([field("lang"), field("url")], "url column", **columns)
    assert found.field == "url column"
    assert len(found.groups) == COLOUR_GROUPS
    assert (found.groups[0].name, len(found.groups[0].points)) == ("often", 20)
    assert (found.groups[-1].name, len(found.groups[-1].points)) == ("14 other values", 14)


def test_without_a_fitting_field_all_rows_are_one_group() -> None:
    found = coloured([field("price", "double"), field("raw", "json")], price=[1.0, 2.0] * 5, raw=["{}", "[]"] * 5)
    assert found.field is None
    assert [(group.name, len(group.points)) for group in found.groups] == [("rows", 10)]


def test_a_legend_of_numbers_is_in_their_order() -> None:
    def legend(values: list[str]) -> list[str]:
        return [group.name for group in _groups(np.zeros((len(values), 2)), values)]

    assert legend(["10", "2", "2", "1"]) == ["1", "2", "10"]
    assert legend(["b", "a", "b"]) == ["b", "a"]  # of words the most frequent comes first
