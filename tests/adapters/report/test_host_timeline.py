"""The hosts of a cluster in a report: a line for each, with what happened to it."""

from __future__ import annotations

import datetime as dt

from tasks.adapters.report.host_timeline import MOST_HOSTS, drawn_hosts
from tasks.adapters.report.page import render_report
from tasks.adapters.report.panels import panels
from tasks.domain.encoder_identity import EncoderIdentity
from tasks.domain.report.hosts import HostMoment, HostWork
from tasks.domain.report.run_report import Progress, RunReport, TargetNamed
from tasks.domain.shards.row_accounting import RowCounts
from tests.builders.pages import Page, Tables

BEGUN = dt.datetime(2026, 11, 26, 8, tzinfo=dt.UTC)
HOSTILE = "</text><script>alert(1)</script>"
AT_WORK = HostMoment(seconds=5, state="at work")
STEADY = HostWork(host="gpu1", ranks=2, rows=6_000, seconds=100, encode_seconds=180, taken=9, moments=(AT_WORK,))
LOST = HostWork(
    host="gpu2",
    ranks=2,
    rows=2_000,
    seconds=50,
    encode_seconds=50,
    taken=4,
    given_back=1,
    doubled=2,
    left_out=f"it failed 2 times in a row: {HOSTILE}",
    moments=(AT_WORK, HostMoment(seconds=40, state="lost", why="silent"), HostMoment(seconds=70, state="left out", why=HOSTILE)),
)


def report_of(*hosts: HostWork) -> RunReport:
    return RunReport(
        run="r",
        corpus="c",
        encoder=EncoderIdentity(kind="k", model="m", revision=None, weights="w", preprocessing={}, precision="float32"),
        target=TargetNamed(uri="http://milvus:19530", collection="c_1", alias="c"),
        rows=RowCounts(source=8_000, embedded=8_000, loaded=8_000),
        started=BEGUN,
        finished=BEGUN + dt.timedelta(seconds=110),
        progress=tuple(Progress(seconds=t, rows=t * 80, by_host=(t * 60, t * 20)[: len(hosts)]) for t in range(0, 101, 10)),
        hosts=hosts,
    )


def test_each_host_has_a_line_of_when_it_was_there_and_a_row_of_what_it_did() -> None:
    page = render_report(report_of(STEADY, LOST))
    assert "<script>" not in page
    rows = {row[0]: row[1:] for row in Tables(page).rows["Hosts"]}
    assert rows["gpu1"][:7] == ["6,000", "60", "0", "90%", "9", "0", "0"]
    assert rows["gpu2"][:7] == ["2,000", "40", "0", "50%", "4", "1", "2"]
    assert "40 s lost (silent), 1:10 left out" in rows["gpu2"][7]
    assert "1 times a host was lost, and 1 hosts were left out" in Page(page).text
    assert page.count("fill:var(--bad)") >= 2


def test_the_speed_is_shown_by_host_and_not_by_the_ranks_of_all() -> None:
    heads = next(panel.heads for panel in panels(report_of(STEADY, LOST)) if panel.title == "Speed over time")
    assert list(heads)[2:] == ["gpu1", "gpu2"]


def test_a_run_of_one_machine_says_nothing_of_hosts() -> None:
    assert all(panel.title != "Hosts" for panel in panels(report_of()))


def test_of_many_hosts_those_are_drawn_that_something_happened_to() -> None:
    many = [STEADY.model_copy(update={"host": f"h{number}"}) for number in range(100)]
    shown = drawn_hosts(report_of(*many, LOST))
    assert len(shown) == MOST_HOSTS
    assert LOST in shown
