"""What a row may name is what the job opens."""

from __future__ import annotations

import fsspec
import pytest
from fsspec.registry import known_implementations
from pydantic import ValidationError

from tasks.domain.job.references import OPENABLE, References
from tasks.domain.job.source import ParquetSource

FAR = References(root="s3://lake/docs")
HERE = References(root="/data/docs")
ALIASES = sorted({*known_implementations, *fsspec.available_protocols()})


def refused(place: str, references: References = FAR) -> str:
    with pytest.raises(ValueError) as told:
        references.resolve(place, references.root)
    return str(told.value)


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize(
    "form", ["{}:///etc/hostname", "{}://bucket/a.jpg", "{}::/etc/hostname", "{}::s3://lake/docs/a.jpg", "s3::{}://etc/a"]
)
def test_a_row_reaches_nothing_by_any_file_system_that_fsspec_knows(alias: str, form: str) -> None:
    place = form.format(alias)
    for name in (place, place.swapcase()):
        for references in (FAR, References(root="gs://lake/docs")):
            try:
                found = references.resolve(name, references.root)
            except ValueError:
                continue
            assert found.startswith("s3://lake/docs/"), found  # a name below the source with '::' in it, which S3 takes literally


@pytest.mark.parametrize("alias", ALIASES)
def test_only_stores_with_servers_of_the_jobs_own_choice_can_be_opened(alias: str) -> None:
    place = f"{alias}://host/a.jpg"
    if alias in OPENABLE or alias == "s3a":
        assert References(root="s3://lake", opened=({"s3a": "s3"}.get(alias, alias),)).resolve(place, "s3://lake") == place
        return
    with pytest.raises(ValidationError, match="is neither one of https, http"):
        References(root="s3://lake", opened=(alias,))


def test_a_reason_names_the_setting_that_opens_the_place() -> None:
    assert refused("s3://other/b/c.jpg").endswith("outside the source: to allow it, set source.references: ['s3://other/']")
    assert refused("https://host:8443/c.jpg").endswith("set source.references: ['https://host:8443/']")
    assert refused("/etc/hostname").endswith("set source.references: [/etc/]")
    assert "cannot be opened for rows" in refused("ftp://host/a.jpg")
    assert "chains file systems" in refused("simplecache::https://host/a.jpg")


def test_what_is_opened_ends_at_a_slash() -> None:
    opened = References(root="s3://lake/docs", opened=("s3://other/a", "https://Host", "/mnt/images"))
    inside = ["s3://other/a/x.jpg", "s3a://other/a/x.jpg", "HTTPS://hOST/x.jpg", "/mnt/images/x.jpg", "file:///mnt/images/x.jpg"]
    for place in [*inside, "s3://lake/docs/y"]:
        assert opened.resolve(place, "s3://lake/docs")
    outside = ["s3://other/ab/x", "s3://other/a/../b", "https://host.evil/x", "https://host@evil/x", "https://host:81/x", "http://host/x"]
    outside += ["/mnt/images/../../etc/passwd", "/mnt/images2/x", "s3://lake/docs2/x", "https://host/%2e%2e/x", "https://host\\@evil/x"]
    outside += ["//mnt/images/x/../../../etc/passwd", "file://other/mnt/images/x.jpg", "file:relative", "~/x://y/../.."]
    for place in outside:
        refused(place, opened)


def test_a_source_on_this_machine_names_files_of_it_but_none_of_the_kernel() -> None:
    assert HERE.resolve("/pictures/a%20b.jpg", "/data/docs") == "/pictures/a%20b.jpg"
    assert HERE.resolve("file:///pictures/a%20b.jpg", "/data/docs") == "/pictures/a b.jpg"
    for place in ("/proc/self/environ", "/dev/zero", "/sys/x", "/a/../proc/self/environ", "file:///proc/1/mem", "local:///dev/stdin"):
        assert "part of the system" in refused(place, HERE)
    refused("https://host/a.jpg", HERE)


@pytest.mark.parametrize("entry", ["ftp", "file:///etc", "https://", "s3://", "local", "reference://x", "etc/"])
def test_a_setting_that_opens_what_cannot_be_opened_is_refused(entry: str) -> None:
    with pytest.raises(ValidationError):
        ParquetSource(uri="s3://lake/docs", image="p", references=[entry])
