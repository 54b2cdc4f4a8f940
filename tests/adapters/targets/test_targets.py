"""One behaviour for every target: the in-memory twin, Milvus Lite (both ways in) and a real Milvus server."""

from __future__ import annotations

import pytest

from tasks.adapters.milvus.milvus_bulk_loader import MilvusBulkLoader
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.ports import Target
from tests.builders.collections import Open, part_of, spec_of


@pytest.fixture
def target(opening: Open, name: str) -> Target:
    return opening(name).target


def make(target: Target, name: str, **changes: object) -> None:
    target.collection(name).ensure(spec_of(name, **changes))


def test_it_says_where_it_is_and_what_it_gives_out_is_its_own(target: Target, name: str) -> None:
    made = target.collection(name)
    assert (made.name, made.target) == (name, target)
    assert target.address


def test_looking_makes_nothing(target: Target, name: str) -> None:
    assert target.resolve(f"{name}_live") is None
    target.reach(f"{name}_live")
    assert target.collection(name).describe() is None
    assert target.drop(name) is False


def test_an_alias_leads_to_what_it_was_pointed_at_last_and_pointing_again_is_harmless(target: Target, opening: Open, name: str) -> None:
    one, two, alias = f"{name}_one", f"{name}_two", f"{name}_live"
    for each in (one, two):
        make(target, each, alias=alias)
    assert target.resolve(alias) is None
    for each in (one, one, two, one):
        target.point(alias, each)
        assert opening(name).target.resolve(alias) == each  # also for who comes later


def test_a_collection_is_dropped_only_when_no_alias_leads_to_it(target: Target, name: str) -> None:
    one, two, alias = f"{name}_one", f"{name}_two", f"{name}_live"
    for each in (one, two):
        make(target, each, alias=alias)
    target.point(alias, one)
    assert target.drop(one) is False
    assert target.collection(one).describe() is not None
    target.point(alias, two)
    assert target.drop(one) is True
    assert (target.collection(one).describe(), target.drop(one), target.resolve(alias)) == (None, False, two)


def test_a_name_that_is_a_collection_is_refused_as_an_alias(target: Target, name: str) -> None:
    make(target, name)
    target.reach(f"{name}_free")
    other = target.collection(f"{name}_2")
    for ask in (lambda: target.reach(name), lambda: other.ensure(spec_of(other.name, alias=name)), lambda: target.point(name, other.name)):
        with pytest.raises(BadInput, match=f"'{name}' .* is a collection"):
            ask()
    assert other.describe() is None


def test_an_alias_to_nothing_is_refused_and_stays_where_it_was(target: Target, name: str) -> None:
    make(target, name)
    target.point(f"{name}_live", name)
    with pytest.raises(Permanent, match=f"pointing alias '{name}_live' to '{name}_gone'"):
        target.point(f"{name}_live", f"{name}_gone")
    assert target.resolve(f"{name}_live") == name


def test_a_collection_goes_on_after_its_target_was_closed(target: Target, name: str) -> None:
    """The next call connects again; Milvus Lite has to load it again, too."""
    made = target.collection(name)
    made.ensure(spec_of(name))
    made.upsert(part_of(["a"]))
    assert made.count() == 1
    target.close()
    made.upsert(part_of(["b"]))
    assert sorted(made.keys("s1")) == ["a", "b"]


def test_collections_of_one_target_know_of_each_other(target: Target, name: str) -> None:
    make(target, name)
    first, second = target.collection(name), target.collection(name)
    first.upsert(part_of(["a"]))
    assert (second.count(), second.identity()) == (1, first.identity())


def test_an_import_without_a_place_for_its_files_is_refused_before_anything_is_made(target: Target, name: str) -> None:
    loader = target.bulk_loader()
    if not isinstance(loader, MilvusBulkLoader):
        pytest.skip("this target needs no such place")
    assert loader.takes(spec_of(name)) is False
    with pytest.raises(BadInput, match=r"^target\.load: "):
        loader.check()
    assert target.collection(name).describe() is None
