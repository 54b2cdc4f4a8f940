"""The page in a real browser, over real collections: what a person does with it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tasks.commands.browse.guest_access import Access
from tasks.commands.browse.job_search import JobSearch
from tasks.commands.browse.server import config_of
from tasks.commands.browse.source_pictures import SourcePictures
from tasks.commands.browse.web_app import BrowseApp
from tasks.domain.errors import KitestringError
from tasks.domain.job.parse import parse_job
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import image_job, make_job, write_rows
from tests.builders.models import Clip
from tests.servers.browser import chromium
from tests.servers.milvus import free_ports

pytestmark = pytest.mark.server
ROWS = 30


@contextmanager
def served(document: dict[str, Any]) -> Iterator[str]:
    """The address of a job's page."""
    job, (port,) = parse_job(document), free_ports(1)
    questions = job.target.gate.queries if job.target.gate else None
    with JobSearch(job) as search, SourcePictures(job) as pictures:
        app = BrowseApp(search, pictures, Access.at("127.0.0.1", port), questions=questions, where="target.gate.queries")
        app.load()
        server = uvicorn.Server(config_of(app, port=port))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.should_exit = server.force_exit = True
            thread.join(30)


@contextmanager
def opened(address: str, **how: Any) -> Iterator[Page]:
    """The page, which asks no other host for anything and prints no error."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(**how)
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        expect(page.locator(".welcome")).to_be_visible()
        yield page
        browser.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert wrong == []


def keys_of(page: Page, column: int = 0) -> list[str]:
    return [str(hit.get_attribute("data-key")) for hit in page.locator(".column").nth(column).locator(".hit").all()]


def scrolls_sideways(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def placeholder_is_whole(page: Page) -> bool:
    """Whether the words in the empty search box have room in it, where a picture may be searched with as well."""
    measured = """(box) => {
      const pen = document.createElement('canvas').getContext('2d')
      pen.font = getComputedStyle(box).font
      return pen.measureText(box.placeholder).width <= box.clientWidth && box.placeholder.includes('picture')
    }"""
    return bool(page.locator("#words").evaluate(measured))


@pytest.fixture
def compared(tmp_path: Path, tiny_model: Path, run_flow: RunFlow) -> dict[str, Any]:
    """A job whose collection is not promoted, since its gate asks for too much; another encoder's is live. Both have full text."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, ROWS, topic=["even", "odd"] * (ROWS // 2), year=list(range(2000, 2000 + ROWS)))
    settings: dict[str, Any] = {"source__metadata": ["topic", "year"], "target__full_text": "on"}
    run_flow(make_job(tmp_path, tiny_model, **settings))
    (tmp_path / "q.jsonl").write_text('{"query": "nothing finds it", "relevant": ["none"]}\n')
    gate = {"queries": str(tmp_path / "q.jsonl"), "minimum": 1.0}
    new = make_job(tmp_path, tiny_model, encoder__prompt="the one: ", target__gate=gate, **settings)
    with pytest.raises(KitestringError, match=r"below target\.gate\.minimum"):
        run_flow(new)
    return new


def test_a_person_searches_filters_compares_and_saves(compared: dict[str, Any], tmp_path: Path) -> None:
    with served(compared) as address:
        with opened(address, viewport={"width": 1280, "height": 800}, color_scheme="light") as page:
            with_the_keyboard(page, tmp_path / "q.jsonl")
        with opened(address, viewport={"width": 390, "height": 844}, color_scheme="dark") as page:
            with_a_thumb(page)


def with_the_keyboard(page: Page, questions: Path) -> None:
    """Every step without a mouse, but for what a mouse is for."""
    page.keyboard.type("/a/b")  # the first one asks for the box, in which it is already
    expect(page.locator("#words")).to_have_value("a/b")
    page.locator("#words").fill("")
    page.keyboard.type("/7")
    expect(page.locator("#words")).to_have_value("/7")
    page.locator("#words").fill("")
    page.locator("body").click(position={"x": 5, "y": 400})
    page.keyboard.press("/")
    expect(page.locator("#words")).to_be_focused()
    page.keyboard.type("/7")
    expect(page.locator("#words")).to_have_value("7")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(10)
    expect(page.locator(".hit").first).to_contain_text("by words #1")
    assert keys_of(page)[0] == "row-7"

    page.keyboard.press("ArrowDown")
    expect(page.locator(".hit").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".hit").nth(1)).to_be_focused()
    second = keys_of(page)[1]
    page.keyboard.press("Enter")
    expect(page.locator(".hit").nth(1).locator(".mark")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("s")
    expect(page.locator("#status")).to_contain_text("Saved in")
    saved = [json.loads(line) for line in questions.read_text().splitlines()]
    assert saved == [{"query": "nothing finds it", "relevant": ["none"]}, {"query": "7", "relevant": [second]}]
    page.keyboard.press("Escape")
    expect(page.locator("#words")).to_be_focused()

    page.locator(".fields button", has_text="topic odd").first.click()  # a value filters by itself
    expect(page.locator("#filter-count")).to_have_text("(1)")
    expect(page.locator(".hit", has_text="topic even")).to_have_count(0)
    page.get_by_label("Expression").fill("year >= 2020 and")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("was refused")
    expect(page.get_by_role("alert")).to_contain_text("filter by the fields id, text, topic, year")
    page.get_by_label("Expression").fill("year >= 2020")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(5)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".hit")).to_have_count(10)
    page.keyboard.press("Escape")

    page.locator(".hit").first.focus()
    page.keyboard.press("c")
    expect(page.locator(".column")).to_have_count(2)
    expect(page.locator("#status")).to_contain_text("in both columns")
    assert page.locator(".column .live").all_inner_texts() == ["live", "not promoted"]
    expect(page.locator(".column").nth(1).locator(".hit.right")).to_have_count(1)
    page.locator(".hit").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".column").nth(1).locator(".hit").first).to_be_focused()
    page.locator(".column").nth(1).get_by_role("button", name="text", exact=True).click()
    expect(page.locator(".column").nth(1).locator(".hit")).to_have_count(1)  # only one row has the word
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("POST /search")


def with_a_thumb(page: Page) -> None:
    """On a phone, in the dark, nothing scrolls sideways."""
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 29)"
    page.get_by_label("Search for").fill("the one that was " * 8)
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(10)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".column")).to_have_count(2)
    page.locator(".column .mark").first.click()
    expect(page.locator("#save")).to_be_visible()
    page.locator("#filter-open").click()
    assert not scrolls_sideways(page)
    page.locator("#help-open").click()
    assert not scrolls_sideways(page)
    page.keyboard.press("Escape")
    a_passage_is_above_the_fold(page)


def a_passage_is_above_the_fold(page: Page) -> None:
    """However much of its document is before it."""
    around = {"document": "book", "start": 500, "end": 900, "before": "what came before " * 40, "after": "what comes next " * 40}
    hit = {"id": "book#1", "score": 0.5, "text": "the passage itself " * 40, "fields": {}, "passage": around}
    page.route("**/search", lambda route: route.fulfill(json={"collection": "c", "mode": "dense", "seconds": 0.1, "hits": [hit]}))
    page.get_by_label("Search for").fill("passage")
    page.keyboard.press("Enter")
    text = page.locator(".hit .text").first
    expect(text.locator(".word").first).to_be_visible()
    lines = "(text) => (text.querySelector('mark').getClientRects()[0].top - text.getBoundingClientRect().top) / 24.8"
    assert text.evaluate(lines) < 4
    expect(text.locator(".far")).to_be_hidden()
    page.get_by_role("button", name="Show all").first.click()
    expect(text.locator(".far")).to_be_visible()


def test_a_picture_that_is_chosen_finds_itself(tmp_path: Path, tiny_clip: Clip, run_flow: RunFlow) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(6):
        Image.new("RGB", (80, 60), (number * 40, 255 - number * 40, 90)).save(tmp_path / "pictures" / f"{number}.png")
    document = image_job(tmp_path, tiny_clip, {"kind": "images", "uri": str(tmp_path / "pictures")})
    run_flow(document)
    with served(document) as address, opened(address, viewport={"width": 1280, "height": 800}) as page:
        assert placeholder_is_whole(page)
        page.set_viewport_size({"width": 390, "height": 844})
        page.reload()
        expect(page.locator("#attach")).to_be_visible()
        assert placeholder_is_whole(page)
        page.set_viewport_size({"width": 1280, "height": 800})
        page.reload()
        page.locator("#file").set_input_files(tmp_path / "pictures" / "3.png")
        expect(page.locator(".hit")).to_have_count(6)
        assert keys_of(page)[0] == "3.png"
        expect(page.locator(".hit img").first).to_be_visible()
        assert page.locator(".hit img").first.evaluate("image => image.naturalWidth") == 80
        assert page.locator(".hit h3").first.evaluate("key => key.clientWidth / key.closest('header').clientWidth") == 1
        expect(page.locator(".hit .mark")).to_have_count(0)  # a gate's questions are words
        page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
        expect(page.get_by_role("alert")).to_contain_text("picture: undecodable image")
        page.get_by_label("Search for").fill("green")
        page.keyboard.press("Enter")
        expect(page.locator("#asked-picture")).to_be_hidden()
        expect(page.locator(".hit")).to_have_count(6)
