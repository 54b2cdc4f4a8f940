"""The report: true in one sentence, whole in one file, and safe whatever the corpus holds."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import sync_playwright

from tasks.adapters.report.page import MOST_BYTES, markdown_report, render_report
from tasks.adapters.report.throughput_curves import rates
from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity
from tasks.domain.estimate.estimate import Estimate, Sampled
from tasks.domain.estimate.intervals import Range, exactly
from tasks.domain.number_format import duration, money
from tasks.domain.report.figures import DeviceWork, EarlierRun, Example, ExampleHit, PointGroup, Projection, RankWork, cost_of
from tasks.domain.report.run_report import FailedShard, Progress, RunReport, SetAside, ShardTime, TargetNamed, report_headline, summary
from tasks.domain.shards.row_accounting import RowCounts, ShardCounts
from tasks.domain.target.retrieval_quality import Evaluation, Interval, ModeQuality, PrecisionQuality
from tests.builders.pages import Page, Tables
from tests.servers.browser import chromium

BEGUN = datetime(2026, 11, 21, 8, 55, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }} $\\frac{ 日本語 \x00\x1b]8;;"


def work(rank: int, **counts: int) -> RankWork:
    """A rank that was given as much padding as a quarter of its tokens."""
    seconds = {"tokenize_seconds": 4.0, "encode_seconds": 80.0, "write_seconds": 2.0}
    return RankWork(rank=rank, parts=10, padded=counts["tokens"] * 5 // 4, **counts, **seconds)


def group(name: str, count: int) -> PointGroup:
    return PointGroup(name=name, points=tuple((float(n), n / 2) for n in range(count)))


def hit(key: str, **told: object) -> ExampleHit:
    return ExampleHit.model_validate({"id": key, "score": 0.75, "text": "some words", "fields": {"kind": "class"}} | told)


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
        "rows": RowCounts(source=20_000, embedded=20_000, loaded=20_000),
        "shards": ShardCounts(planned=20, sealed=20, loaded=20),
        "verified": True,
        "reasons": ("every shard's strong count equals its seal",),
        "started": BEGUN,
        "finished": BEGUN + timedelta(seconds=192),
        "seconds": {"plan": 1.0, "encode": 200.0, "load": 40.0},
        "progress": tuple(Progress(seconds=t, rows=t * 100, tokens=t * 7000, by_rank=(t * 60, t * 40)) for t in range(0, 201, 10)),
        "ranks": (work(0, rows=12_000, tokens=840_000), work(1, rows=8_000, tokens=560_000)),
        "cost": cost_of(rows=20_000, tokens=1_400_000, seconds=192, price_per_hour=1.5),
        "before": EarlierRun(
            run="r0", started=BEGUN, rows=RowCounts(source=19_000, embedded=19_000), seconds=384, rows_per_second=80, verified=True
        ),
        "projection": Projection(rows=3, kept=(0.3, 0.1), field="kind", groups=(group("function", 2), group("class", 1))),
        "examples": (
            Example(kind="question", asked="read a zip archive", hits=(hit("zipfile.ZipFile"),)),
            Example(kind="row", asked="zipfile.is_zipfile", text="whether it is one", hits=(hit("tarfile.is_tarfile"),)),
        ),
        "peak_memory": {"flow": 300 * 2**20, "rank 0": 900 * 2**20},
        "slowest": (ShardTime(name="a.parquet", rows=1000, seconds=10.0),),
        "tokens": 1_400_000,
        "lengths": {32: 12_000, 64: 8_000},
        "versions": {"kitestring": "0.1.0"},
        "page": "/runs/r1/report.html",
    }
    return RunReport.model_validate(sound | changes)


def part_done(**changes: object) -> RunReport:
    failed = {
        "rows": RowCounts(source=20_000, embedded=18_000, quarantined=1_000, loaded=17_000),
        "shards": ShardCounts(planned=20, sealed=19, loaded=18, failed=1),
        "verified": False,
        "failures": (FailedShard(name=f"{HOSTILE}.parquet", error=f"refused: {HOSTILE}"),),
        "reasons": (f"shard {HOSTILE}: 998 of 1,000",),
        "quarantine": {HOSTILE: 900, "empty text": 100},
        "set_aside": (SetAside(shard=HOSTILE, row=7, id=HOSTILE, reason=HOSTILE), SetAside(shard="a", row=8, id=None, reason="null id")),
        "slowest": (ShardTime(name=HOSTILE, rows=10, seconds=1.0),),
        "projection": Projection(rows=3, kept=(0.3, 0.1), field=HOSTILE, groups=(group(HOSTILE, 3),)),
        "examples": (Example(kind="row", asked=HOSTILE, text=HOSTILE, hits=(hit(HOSTILE, text=HOSTILE, fields={HOSTILE: HOSTILE}),)),),
        "left_out": {"comparison": HOSTILE},
        "peak_memory": {"flow": 1},
    }
    return make(**(failed | changes))


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (make(), "20,000 of 20,000 rows are searchable; verified."),
        (
            make(rows=RowCounts(source=20_000, reused=20_000, loaded=20_000)),
            "20,000 of 20,000 rows are searchable, nothing had to be encoded; verified.",
        ),
        (
            make(rows=RowCounts(source=20_000, embedded=19_986, quarantined=13, duplicates=1, loaded=19_986)),
            "19,986 of 20,000 rows are searchable, 13 were quarantined, 1 duplicate left out; verified.",
        ),
        (part_done(), "17,000 of 20,000 rows are searchable, 1,000 were quarantined; 1 of 20 shards failed."),
        (make(verified=False, reasons=("a", "b")), "20,000 of 20,000 rows are searchable; not verified (2 differences found)."),
        (make(verified=False, reasons=()), "20,000 of 20,000 rows are searchable; not verified yet."),
        (
            make(shards=ShardCounts(planned=20, sealed=12, loaded=12), verified=False),
            "20,000 of 20,000 rows are searchable; 8 shards remaining.",
        ),
        (make(rows=RowCounts(source=1, embedded=1, loaded=1)), "1 of 1 row is searchable; verified."),
        (make(rows=RowCounts(), shards=ShardCounts()), "The source holds no rows."),
    ],
)
def test_the_headline_tells_the_truth_in_one_sentence(report, sentence):
    assert report_headline(report) == sentence
    assert sentence in Page(render_report(report)).text


def test_searches_by_words_are_told_from_those_by_meaning_and_the_gates_measures_stand_side_by_side():
    found = Example(kind="question", mode="text", asked="E1234-B", hits=())
    half = Interval(mean=0.5, low=0.25, high=0.75)
    modes = tuple(ModeQuality(mode=mode, ndcg=half, recall=half, mrr=half) for mode in ("dense", "text", "hybrid"))
    report = make(examples=(found,), gate=Evaluation(collection="c", questions=200, at_k=7, modes=modes))
    text = Page(render_report(report)).text
    assert "“E1234-B”, by words" in text
    assert "No other row has any of its words." in text
    assert "Retrieval quality" in text
    assert text.count("0.5000 (0.2500 to 0.7500)") == 9
    assert "nDCG@7" in text


def beside_float32(**changes):
    def of(mean):
        interval = Interval(mean=mean, low=mean - 0.25, high=mean + 0.25)
        return ModeQuality(mode="dense", ndcg=interval, recall=interval, mrr=interval)

    found = {
        "run": "r1",
        "at": "2026-05-06T07:08:09+00:00",
        "collection": "c",
        "precision": "int8",
        "at_k": 10,
        "questions": 40,
        "of_questions": 40,
        "nearest": 50,
        "rows": 2_000,
        "of_rows": 20_000,
        "searched": of(0.6875),
        "reduced": of(0.6875),
        "float32": of(0.71875),
        "difference": of(-0.03125),
    }
    return PrecisionQuality.model_validate(found | changes)


def test_precisions_stand_side_by_side_with_what_was_compared():
    line = "nDCG@10 0.6875 in int8, 0.7188 in float32; 40 questions over 2,000 of 20,000 rows, all judged rows among them"
    report = make(precision_quality=beside_float32())
    page = render_report(report)
    shown = Tables(page).rows
    (heads, *rows) = shown["Retrieval quality beside float32"]
    assert heads == ["vectors", "nDCG@10", "recall@10", "MRR"]
    assert [row[0] for row in rows] == ["int8, as searched", "int8, 2,000 rows", "float32, 2,000 rows", "int8 minus float32"]
    assert rows[-1][1] == "-0.0312 (-0.2812 to 0.2188)"
    assert ["beside float32", line] in shown["Encoder"]
    text = " ".join(Page(page).text.split())
    assert "They are the 50 nearest rows of each question in int8 and the judged rows. Over the whole collection the figures of" in text
    assert "Measured on 2026-05-06" in text
    assert summary(report)["precision_quality"] == report.precision_quality.model_dump(mode="json")
    assert "| float32, 2,000 rows | 0.7188 (0.4688 to 0.9688) |" in markdown_report(report)
    whole = Page(render_report(make(precision_quality=beside_float32(rows=20_000, questions=12)))).text
    assert "12 of 40 questions over all 20,000 rows; the rows are ranked exactly" in whole
    assert "nearest rows of each question" not in whole


def test_the_summary_is_what_machines_were_promised():
    assert summary(make()) == {
        "rows": {"source": 20_000, "embedded": 20_000, "reused": 0, "duplicates": 0, "quarantined": 0, "loaded": 20_000, "removed": 0},
        "shards": {"planned": 20, "sealed": 20, "loaded": 20, "failed": 0},
        "verified": True,
        "proof": "",
        "report": "/runs/r1/report.html",
        "notes": [],
        "gate": None,
        "unread": [],
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
    assert page.count("a") == page.count("img") == 0
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
    assert len(charts) == page.count("figure") == page.count("details") == 10
    assert len(ids) == len(set(ids))
    assert {name for chart in charts for name in str(chart["aria-labelledby"]).split()} == set(ids)


def test_charts_take_the_pages_colours_so_that_dark_pages_stay_readable():
    charts = "".join(re.findall(r"<svg.*?</svg>", render_report(part_done()), re.DOTALL))
    assert "currentColor" in charts
    assert "var(--one)" in charts
    assert {f"var(--{tone})" for tone in ("two", "calm", "warn", "bad", "c1", "c2")} <= set(re.findall(r"var\(--\w+\)", charts))
    assert not re.search(r"#[0-9a-f]{6}", charts)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": RowCounts(source=20_000, reused=20_000, loaded=20_000), "progress": ()}, "Nothing had to be encoded"),
        ({"progress": (Progress(seconds=3.0, rows=20_000),)}, "The run was too short to draw its speed"),
        # 1,000 rows a second while encoding: looked at every ten seconds, no window of the run shows that
        (
            {"seconds": {"encode": 20.0}, "progress": tuple(Progress(seconds=10 * n, rows=5_000 * n) for n in range(5))},
            "too short to draw its speed",
        ),
        ({"lengths": {}}, "No text was measured"),
        ({"slowest": ()}, "No shard was encoded in this run"),
        ({"quarantine": {}}, "No row is quarantined"),
        ({"seconds": {}}, "No stage was timed"),
        ({"ranks": ()}, "No rank had any work"),
        ({"ranks": ()}, "no text was encoded"),
        ({"peak_memory": {}}, "Not measured."),
        ({"rows": RowCounts(), "shards": ShardCounts(), "progress": (), "lengths": {}, "slowest": ()}, "The source has no rows"),
    ],
)
def test_where_there_is_nothing_to_draw_there_are_words(changes, words):
    assert words in Page(render_report(make(**changes))).text


def test_a_picture_run_shows_rows_a_second_and_no_tokens():
    pictures = tuple(Progress(seconds=t, rows=t * 10) for t in range(20))
    text = Page(render_report(make(progress=pictures, tokens=0, lengths={}))).text
    assert "rows per second" in text
    assert "tokens per second" not in text


def test_rows_that_no_shard_accounts_for_are_said():
    assert "1,000 source rows are not done yet" in Page(render_report(part_done())).text


def test_rates_are_differences_of_totals():
    halves = [(0, 0), (10, 1000), (20, 1200)]
    assert rates(halves) == [(0, 100.0), (10.0, 100.0), (20.0, 20.0)]


@pytest.mark.parametrize("totals", [[], [(1, 5)], [(1, 5), (1, 6)]])
def test_rates_need_two_moments(totals):
    assert rates(totals) == []


def test_a_long_run_stays_a_short_curve_and_loses_no_row():
    steady = [(t / 10, t * 3) for t in range(100_001)]
    curve = rates(steady)
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


def rows_of(report: RunReport) -> dict[str, list[list[str]]]:
    """The page's tables under their headings: a list of rows, each a list of cells."""
    return Tables(render_report(report)).rows


def test_every_section_has_its_figures():
    tables = rows_of(make())
    assert tables["Rows by outcome"][1] == ["embedded by this run", "20,000"]
    assert tables["Speed over time"][:2] == [
        ["time", "rows per second", "tokens per second", "rank 0", "rank 1"],
        ["0 s", "100", "7,000", "60", "40"],
    ]
    assert tables["Time by stage"][1:] == [["plan", "1.0 s"], ["encode", "3 min 20 s"], ["load", "40 s"]]
    late = rows_of(make(seconds={"promote": 1, "verify": 2, "load": 3, "encode": 4, "start-up": 5, "plan": 6}))["Time by stage"]
    assert [row[0] for row in late[1:]] == ["plan", "start-up", "encode", "load", "verify", "promote"]
    assert tables["Time by work of the ranks"][1:] == [["encoding", "2 min 40 s"], ["tokenising", "8.0 s"], ["writing parts", "4.0 s"]]
    assert tables["Text lengths"][1:] == [["32", "12,000"], ["64", "8,000"]]
    assert tables["Padding"][1:] == [["tokens of texts", "1,400,000"], ["padding", "350,000"]]
    assert tables["Slowest shards"][1] == ["a.parquet", "10 s, 100 rows/s"]
    assert tables["Peak memory"][1:] == [["rank 0", "900 MiB"], ["flow", "300 MiB"]]
    assert tables["A map of the vectors"] == [["kind", "in the sample"], ["function", "2"], ["class", "1"]]
    text = Page(render_report(make())).text
    assert "20.0% of the tokens that the model computed on were padding." in text
    assert "keeps 40% of the variance" in text
    assert "“read a zip archive”" in text
    assert "Rows like zipfile.is_zipfile" in text


def test_the_price_is_told_by_the_hour_and_by_the_dollar_and_only_where_it_is_known():
    assert rows_of(make())["Cost"] == [
        ["", "total", "per hour", "per dollar"],
        ["rows encoded", "20,000", "375,000", "250,000"],
        ["tokens", "1,400,000", "26,250,000", "17,500,000"],
    ]
    assert "3 min 12 s from start to proof, $0.08 at $1.50 per hour, $4.00 per million rows." in " ".join(
        Page(render_report(make())).text.split()
    )
    unpriced = make(cost=cost_of(rows=20_000, tokens=0, seconds=192, price_per_hour=None), tokens=0)
    assert rows_of(unpriced)["Cost"] == [["", "total", "per hour"], ["rows encoded", "20,000", "375,000"]]
    assert "report.price_per_hour" in render_report(unpriced)


def test_the_hardware_stands_with_what_each_device_did():
    devices = (
        DeviceWork(host="gpu1", name="NVIDIA H100", utilization=0.934, memory_bytes=2**33, rows_per_second=900.4, tokens_per_second=51_000),
        DeviceWork(host="gpu1", name="AMD EPYC, 8 cores"),
    )
    assert rows_of(make(devices=devices))["Hardware"][1:] == [
        ["NVIDIA H100", "gpu1", "93%", "8.6 GB", "900", "51,000"],
        ["AMD EPYC, 8 cores", "gpu1", "n/a", "", "none", "none"],
    ]
    assert "Hardware" not in rows_of(make())


@pytest.mark.parametrize(
    ("dollars", "shown"), [(0.0, "$0.00"), (0.00001, "under $0.0001"), (0.0123, "$0.012"), (1.5, "$1.50"), (12_345.6, "$12,346")]
)
def test_money_is_written_for_people(dollars, shown):
    assert money(dollars) == shown


def test_the_estimate_stands_beside_what_came():
    estimate = Estimate(
        rows=exactly(20_000),
        rows_to_load=exactly(20_000),
        seconds=Range(low=100, expected=160, high=180),
        sample=Sampled(rows=1_000, places=16, bytes=1),
    )
    assert rows_of(make(estimate=estimate))["Estimate and outcome"] == [
        ["figure", "expected", "actual", "deviation"],
        ["rows", "20,000", "20,000", "+0%"],
        ["seconds", "2 min 40 s (1 min 40 s to 3 min 0 s)", "3 min 12 s", "+20%, outside the range"],
    ]
    assert "| rows | 20,000 | 20,000 | +0% |" in markdown_report(make(estimate=estimate))
    assert "Estimate and outcome" not in rows_of(make())


def test_the_run_before_stands_beside_this_one():
    tables = rows_of(make())["Compared with the previous run"]
    assert tables == [
        ["rows", "this run", "previous", "change"],
        ["in the source", "20,000", "19,000", "+1,000"],
        ["encoded", "20,000", "19,000", "+1,000"],
        ["reused", "0", "0", ""],
        ["quarantined", "0", "0", ""],
        ["searchable", "20,000", "0", "+20,000"],
        ["time", "3 min 12 s", "6 min 24 s", "-50%"],
        ["rows per second", "100", "80", "+25%"],
        ["verified", "yes", "yes", ""],
    ]
    assert "Compared with the previous run" not in rows_of(make(before=None))


def test_pictures_are_in_the_page_and_of_nothing_else():
    keys = {"zipfile.ZipFile": b"one", "tarfile.is_tarfile": b"two", "zipfile.is_zipfile": b"three", "another": b"four"}
    page = Page(render_report(make(), keys))
    sources = {str(attrs["alt"]): str(attrs["src"]) for tag, attrs in page.tags if tag == "img"}
    assert sources == {
        "zipfile.ZipFile": "data:image/jpeg;base64,b25l",
        "tarfile.is_tarfile": "data:image/jpeg;base64,dHdv",
        "zipfile.is_zipfile": "data:image/jpeg;base64,dGhyZWU=",
    }


def test_many_ranks_share_the_colours_there_are():
    progress = tuple(Progress(seconds=t, rows=t * 66, by_rank=tuple(t * n for n in range(12))) for t in range(5))
    heads, first, *_ = rows_of(make(progress=progress, seconds={}))["Speed over time"]
    assert heads[2:] == [*(f"rank {n}" for n in range(7)), "other ranks"]
    assert first[-1] == str(7 + 8 + 9 + 10 + 11)


def largest_run() -> tuple[RunReport, dict[str, bytes]]:
    """As much of everything as a report can hold, all of it letters that the page has to write as five."""
    long = "'" * 5_000
    told = {name: FailedShard(name=long, error=long) for name in ("failures", "damaged")}
    keys = [f"{n:04}{long[:196]}" for n in range(50)]
    hits = [ExampleHit(id=key, score=0.5, text=long[:280], fields={f"{n}{long[:79]}": long[:80] for n in range(8)}) for key in keys[10:]]
    examples = [
        Example(kind="row", asked=key, text=long[:280], hits=tuple(hits[place * 4 : place * 4 + 4])) for place, key in enumerate(keys[:10])
    ]
    groups = tuple(PointGroup(name=f"{n}{long[:59]}", points=tuple((x / 7, x / 3) for x in range(188))) for n in range(8))
    by_rank = tuple(range(64))
    return make(
        **{name: (shard,) * 10_000 for name, shard in told.items()},
        verified=False,
        shards=ShardCounts(planned=20_000, sealed=10_000, failed=10_000),
        reasons=(long,) * 1_000,
        refusals=(long,) * 100,
        notes=(long,) * 100,
        set_aside=tuple(SetAside(shard=long, row=n, id=long, reason=long) for n in range(20)),
        quarantine={f"{n}{long}": n for n in range(1_000)},
        lengths={8 * n: n for n in range(1, 5_000)},
        slowest=tuple(ShardTime(name=long, rows=1, seconds=n) for n in range(10)),
        progress=tuple(Progress(seconds=n, rows=n, tokens=n * n, by_rank=tuple(r * n for r in by_rank)) for n in range(600)),
        ranks=tuple(work(rank, rows=1, tokens=4) for rank in by_rank),
        peak_memory={f"rank {rank}": rank for rank in by_rank},
        projection=Projection(rows=1_504, kept=(0.3, 0.2), field=long[:60], groups=groups),
        examples=tuple(examples),
        settings={"source": {"metadata": [long] * 1_000}},
    ), dict.fromkeys(keys, b"x" * 10_000)


def test_the_largest_page_can_still_be_sent_by_mail():
    report, pictures = largest_run()
    html = render_report(report, pictures)
    assert Page(html).count("img") == 50
    assert len(html.encode()) < MOST_BYTES


def test_a_page_that_would_be_too_large_goes_without_its_examples_and_says_so():
    report, pictures = largest_run()
    html = render_report(report, {key: 10 * picture for key, picture in pictures.items()})
    assert len(html.encode()) < MOST_BYTES
    assert "Rows like" not in html
    assert "the page would be larger than 2 MB" in html


@pytest.mark.parametrize(
    ("truncated", "lost", "told"), [(0, 0, "No row was longer"), (1, 1, "1 row was truncated"), (1_200, 9_000, "1,200 rows were truncated")]
)
def test_what_was_cut_is_said(truncated, lost, told):
    words = Page(render_report(make(truncated=truncated, tokens_cut=lost))).text
    assert told in words
    assert not truncated or f"lost {lost:,} token{'s' if lost > 1 else ''}." in words


def test_settings_are_shown_as_json():
    settings = {"corpus": "pydocs", "shards": {"rows": 50_000}}
    assert json.dumps(settings, indent=2) in Page(render_report(make(settings=settings))).text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.84, "0.8 s"), (42, "42 s"), (192, "3 min 12 s"), (59.7, "1 min 0 s"), (7500, "2 h 5 min")]
)
def test_durations_are_written_for_people(seconds, shown):
    assert duration(seconds) == shown


def test_a_page_says_what_was_proved_and_no_more():
    sample = "counts of all rows, and a sample of 1,000 vectors and their fields"
    page = render_report(make(verified=True, proved=sample, exact=False))
    assert f"Verified: {sample}" in page
    assert "exactly these rows" not in page
    page = render_report(make(verified=True, proved="every row: its key once", exact=True))
    assert "Verified: every row: its key once; the collection holds exactly these rows" in page
    assert "exactly these rows" not in render_report(make(verified=True))


def test_an_artifact_names_each_figure_once_and_whose_path_it_gives():
    text = markdown_report(make(rows=RowCounts(source=20_000, embedded=19_990, quarantined=10, loaded=19_990)))
    assert text.count("| quarantined |") == 1
    assert re.search(r"Full report, on the machine `[^`]+`: `/runs/r1/report.html`", text)
    assert "Full report: `s3://lake/report.html`" in markdown_report(make(page="s3://lake/report.html"))


# A cell whose text reaches beyond its table's frame or the page, whether the frame can be scrolled or not; details are opened for it.
CUT = """() => {
  document.querySelectorAll('details').forEach(each => each.open = true)
  return [...document.querySelectorAll('th, td')].filter(cell => {
    const text = document.createRange()
    text.selectNodeContents(cell)
    const frame = cell.closest('.wide, section, figure').getBoundingClientRect()
    return text.getBoundingClientRect().right > Math.min(frame.right, document.documentElement.clientWidth) + 1
  }).map(cell => cell.textContent)
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_all_tables_are_seen_whole_and_labels_can_be_read(tmp_path, width):
    estimate = Estimate(
        rows=exactly(20_000),
        rows_to_load=exactly(20_000),
        seconds=Range(low=100, expected=160, high=180),
        sample=Sampled(rows=1_000, places=16, bytes=1),
    )
    device = DeviceWork(host="c7i-4xlarge.internal", name="AMD EPYC 9R14, 16 cores", rows_per_second=1_234.5, tokens_per_second=282_345)
    gpu = {"utilization": 0.934, "memory_bytes": 2**36, "name": "NVIDIA H100 80GB HBM3"}
    progress = tuple(Progress(seconds=t, rows=t * 9_000, tokens=t * 900_000, by_rank=(t * 1_200,) * 12) for t in range(0, 201, 10))
    devices = (device, device.model_copy(update=gpu))
    report = part_done(estimate=estimate, devices=devices, progress=progress, precision_quality=beside_float32(absent=1, unread=2))
    page = tmp_path / "report.html"
    page.write_text(render_report(report))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": 900})
        shown.goto(page.as_uri())
        assert shown.evaluate("Math.min(...[...document.querySelectorAll('.chart text')].map(e => e.getBoundingClientRect().height))") >= 12
        assert shown.evaluate(CUT) == []
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()


def test_notes_and_refusals_have_no_credentials_of_the_errors_that_they_quote() -> None:
    words = ("it was not compared: https://me:hunter2@host/q.jsonl does not answer",)
    report = make(notes=words, refusals=words)
    assert report.notes == report.refusals == ("it was not compared: https://host/q.jsonl does not answer",)
    assert "hunter2" not in report.model_dump_json() + json.dumps(summary(report)) + render_report(report)
