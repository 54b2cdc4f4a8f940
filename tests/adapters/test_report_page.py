"""The report: true in one sentence, whole in one file, and safe whatever the corpus holds."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from tasks.adapters.charts import clock, compact, shorten
from tasks.adapters.report_page import duration, markdown_report, rates, render_report
from tasks.domain.accounts import RowFates, ShardFates
from tasks.domain.encoder import EncoderFacts, EncoderIdentity
from tasks.domain.report import FailedShard, Progress, RunReport, SetAside, ShardTime, TargetNamed, headline, summary

BEGUN = datetime(2026, 11, 21, 8, 55, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }} $\\frac{ 日本語 \x00\x1b]8;;"


def make(**changes: object) -> RunReport:
    """A run on 20,000 rows in which all went well, with changes."""
    sound = {
        "run": "r1",
        "corpus": "pydocs",
        "encoder": EncoderIdentity(
            kind="sentence-transformers", model="all-MiniLM-L6-v2", revision=None, weights="0f", preprocessing={}, precision="float32"
        ),
        "facts": EncoderFacts(dim=384, max_seq_length=256, precision="float32", device="cpu"),
        "target": TargetNamed(uri="./pydocs.db", collection="pydocs_0f0f0f0f", alias="pydocs"),
        "rows": RowFates(source=20_000, embedded=20_000, loaded=20_000),
        "shards": ShardFates(planned=20, sealed=20, loaded=20),
        "verified": True,
        "reasons": ("every shard's strong count equals its seal",),
        "started": BEGUN,
        "finished": BEGUN + timedelta(seconds=192),
        "seconds": {"plan": 1.0, "encode": 160.0, "load": 40.0},
        "progress": tuple(Progress(seconds=t, rows=t * 100, tokens=t * 7000) for t in range(0, 201, 10)),
        "slowest": (ShardTime(name="a.parquet", rows=1000, seconds=10.0),),
        "tokens": 1_400_000,
        "lengths": {32: 12_000, 64: 8_000},
        "versions": {"kitestring": "0.1.0"},
        "page": "/runs/r1/report.html",
    }
    return RunReport.model_validate(sound | changes)


def part_done(**changes: object) -> RunReport:
    failed = {
        "rows": RowFates(source=20_000, embedded=18_000, quarantined=1_000, loaded=17_000),
        "shards": ShardFates(planned=20, sealed=19, loaded=18, failed=1),
        "verified": False,
        "failures": (FailedShard(name=f"{HOSTILE}.parquet", error=f"refused: {HOSTILE}"),),
        "reasons": (f"shard {HOSTILE}: 998 of 1,000",),
        "quarantine": {HOSTILE: 900, "empty text": 100},
        "set_aside": (SetAside(shard=HOSTILE, row=7, id=HOSTILE, reason=HOSTILE), SetAside(shard="a", row=8, id=None, reason="null id")),
        "slowest": (ShardTime(name=HOSTILE, rows=10, seconds=1.0),),
    }
    return make(**(failed | changes))


class Page(HTMLParser):
    """What a browser would make of a page: its tags, its attributes, its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (make(), "20,000 of 20,000 rows are searchable; proved."),
        (
            make(rows=RowFates(source=20_000, reused=20_000, loaded=20_000)),
            "20,000 of 20,000 rows are searchable, nothing had to be encoded; proved.",
        ),
        (
            make(rows=RowFates(source=20_000, embedded=19_986, quarantined=13, duplicates=1, loaded=19_986)),
            "19,986 of 20,000 rows are searchable, 13 were set aside, 1 duplicate left out; proved.",
        ),
        (part_done(), "17,000 of 20,000 rows are searchable, 1,000 were set aside; 1 of 20 shards failed."),
        (make(verified=False, reasons=("a", "b")), "20,000 of 20,000 rows are searchable; not proved (2 faults found)."),
        (make(verified=False, reasons=()), "20,000 of 20,000 rows are searchable; not proved yet."),
        (
            make(shards=ShardFates(planned=20, sealed=12, loaded=12), verified=False),
            "20,000 of 20,000 rows are searchable; 8 shards still to come.",
        ),
        (make(rows=RowFates(source=1, embedded=1, loaded=1)), "1 of 1 row is searchable; proved."),
        (make(rows=RowFates(), shards=ShardFates()), "The source holds no rows."),
    ],
)
def test_the_headline_tells_the_truth_in_one_sentence(report, sentence):
    assert headline(report) == sentence
    assert sentence in Page(render_report(report)).text


def test_the_summary_is_what_machines_were_promised():
    assert summary(make()) == {
        "rows": {"source": 20_000, "embedded": 20_000, "reused": 0, "duplicates": 0, "quarantined": 0, "loaded": 20_000},
        "shards": {"planned": 20, "sealed": 20, "loaded": 20, "failed": 0},
        "verified": True,
        "report": "/runs/r1/report.html",
        "notes": [],
    }


def test_report_json_comes_back_as_it_was():
    report = part_done(quarantine={"empty text": 1}, slowest=(), set_aside=(), failures=(), reasons=())
    assert RunReport.model_validate_json(report.model_dump_json()) == report


def test_no_user_or_password_is_kept_from_any_uri():
    report = make(
        target=TargetNamed(uri="http://root:canary@host:19530", collection="c", alias="c"),
        settings={"target": {"uri": "http://root:canary@host:19530"}, "sources": ["s3://key:canary@lake/x"]},
    )
    assert report.target.uri == "http://host:19530"
    assert "canary" not in report.model_dump_json() + render_report(report) + markdown_report(report)


def test_the_page_needs_nothing_but_itself():
    html = render_report(part_done())
    assert len(html.encode()) < 200_000
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if {"src", "href", "xlink:href"} & set(attrs)]
    assert not re.search(r"https?://(?!$)|url\(|@import", html.replace("http://host", ""))


def test_hostile_text_is_shown_and_never_run():
    report = part_done(corpus="pydocs", run=HOSTILE, settings={"corpus": HOSTILE}, versions={HOSTILE: HOSTILE})
    html = render_report(report)
    page = Page(html)
    assert page.count("script") == 0
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert "\x00" not in html
    assert "<script>alert(1)</script>" in page.text
    assert "49" not in page.text.partition("{{")[2][:20]


def test_lone_surrogates_do_not_stop_a_report():
    row = SetAside.model_construct(shard="a", row=0, id="\ud800", reason="text is not UTF-8")
    report = make().model_copy(update={"set_aside": (row,), "quarantine": {"bad \udcff": 1}})
    assert render_report(report).encode()
    assert markdown_report(report).encode()


def test_every_chart_is_described_and_has_its_figures_as_a_table():
    page = Page(render_report(part_done()))
    charts = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(charts) == page.count("figure") == page.count("details") == 6
    assert len(ids) == len(set(ids))
    assert {name for chart in charts for name in str(chart["aria-labelledby"]).split()} == set(ids)


def test_charts_take_the_pages_colours_so_that_dark_pages_stay_readable():
    charts = "".join(re.findall(r"<svg.*?</svg>", render_report(part_done()), re.DOTALL))
    assert "currentColor" in charts
    assert "var(--one)" in charts
    assert not re.search(r"#[0-9a-f]{6}", charts)
    assert "token" not in re.sub(r"tokens", "", charts)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": RowFates(source=20_000, reused=20_000, loaded=20_000), "progress": ()}, "Nothing had to be encoded"),
        ({"progress": (Progress(seconds=3.0, rows=20_000),)}, "before its speed could be drawn"),
        ({"lengths": {}}, "No text was measured"),
        ({"slowest": ()}, "No shard was encoded in this run"),
        ({"quarantine": {}}, "No row was set aside"),
        ({"seconds": {}}, "No stage was timed"),
        ({"rows": RowFates(), "shards": ShardFates(), "progress": (), "lengths": {}, "slowest": ()}, "The source holds no rows"),
    ],
)
def test_where_there_is_nothing_to_draw_there_are_words(changes, words):
    assert words in Page(render_report(make(**changes))).text


def test_a_picture_run_shows_rows_a_second_and_no_tokens():
    pictures = tuple(Progress(seconds=t, rows=t * 10) for t in range(20))
    text = Page(render_report(make(progress=pictures, tokens=0, lengths={}))).text
    assert "rows a second" in text
    assert "tokens a second" not in text


def test_rows_that_no_shard_accounts_for_are_said():
    assert "1,000 source rows are not done yet" in Page(render_report(part_done())).text


def test_rates_are_differences_of_totals():
    halves = [Progress(seconds=0, rows=0), Progress(seconds=10, rows=1000), Progress(seconds=20, rows=1200)]
    assert rates(halves, "rows") == [(0, 100.0), (10.0, 100.0), (20.0, 20.0)]


@pytest.mark.parametrize("progress", [[], [Progress(seconds=1, rows=5)], [Progress(seconds=1, rows=5), Progress(seconds=1, rows=6)]])
def test_rates_need_two_moments(progress):
    assert rates(progress, "rows") == []


def test_a_long_run_stays_a_short_curve_and_loses_no_row():
    steady = [Progress(seconds=t / 10, rows=t * 3) for t in range(100_001)]
    curve = rates(steady, "rows")
    assert len(curve) < 60
    assert sum(rate for _, rate in curve[1:]) * 10_000 / (len(curve) - 1) == pytest.approx(300_000)


def test_runs_that_report_at_once_draw_the_same_page():
    expected = render_report(part_done())
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: render_report(part_done()), range(8))) == {expected}


def test_markdown_has_the_figures_and_lets_no_markup_through():
    text = markdown_report(part_done())
    assert text.startswith("# 17,000 of 20,000 rows are searchable")
    assert "| embedded | 18,000 |" in text
    assert "<script>" not in text
    assert len([line for line in text.splitlines() if "alert" in line]) == 2  # each hostile text keeps to its one cell


def test_settings_are_shown_as_json():
    settings = {"corpus": "pydocs", "shards": {"rows": 50_000}}
    assert json.dumps(settings, indent=2) in Page(render_report(make(settings=settings))).text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.84, "0.8 s"), (42, "42 s"), (192, "3 min 12 s"), (59.7, "1 min 0 s"), (7500, "2 h 5 min")]
)
def test_durations_are_written_for_people(seconds, shown):
    assert duration(seconds) == shown


def test_labels_are_short_and_plain():
    assert (clock(90), clock(3700), clock(5)) == ("1:30", "1:01:40", "5 s")
    assert (compact(1234), compact(950), compact(2_500_000)) == ("1.23k", "950", "2.5M")
    assert shorten("docs/2026/" + "x" * 80 + ".parquet", 30).endswith("x.parquet")
    assert len(shorten("a\nb\0" * 1000, 30)) == 30
