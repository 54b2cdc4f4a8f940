"""A page of hits shows what was found, runs nothing of it and fetches nothing."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tasks.adapters.report.search_page import render_hits
from tasks.adapters.report.thumbnails import THUMBNAIL_PIXELS, thumbnail
from tasks.domain.target.collection import Hit
from tests.servers.browser import chromium

HOSTILE = '<script>alert(1)</script>" onload="x'


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_text_is_shown_and_never_run() -> None:
    hit = Hit(id=HOSTILE, score=0.5, fields={"text": HOSTILE, "url": "javascript:alert(1)", "lone": "\ud800", "none": None})
    page = render_hits(HOSTILE, HOSTILE, [hit], {HOSTILE: b"jpeg"})
    tags = Tags(page).found
    assert not {tag for tag, _ in tags} & {"script", "a", "link", "iframe"}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert [attributes["src"] for tag, attributes in tags if tag == "img"] == ["data:image/jpeg;base64,anBlZw=="]
    assert "javascript:alert(1)" in page
    assert "default-src 'none'" in page
    page.encode()


def test_no_hits_are_a_page_too() -> None:
    assert "0 hits in docs" in render_hits("words", "docs", [], {})


def test_the_picture_that_was_searched_with_comes_first() -> None:
    hit = Hit(id="a.jpg", score=0.5, fields={})
    page = render_hits(HOSTILE, "pictures", [hit], {"a.jpg": b"hit"}, asked=b"asked")
    shown = [(attributes["src"], attributes["alt"]) for tag, attributes in Tags(page).found if tag == "img"]
    assert shown == [("data:image/jpeg;base64,YXNrZWQ=", HOSTILE), ("data:image/jpeg;base64,aGl0", "a.jpg")]


def test_a_picture_is_enlarged_by_a_click_and_by_enter_without_a_script(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("RGB", (320, 240), (200, 30, 30)).save(out, "JPEG")
    (tmp_path / "hits.html").write_text(render_hits("red", "pictures", [Hit(id="a.jpg", score=0.5, fields={})], {"a.jpg": out.getvalue()}))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.goto((tmp_path / "hits.html").as_uri())

        def width() -> float:
            return float(page.get_by_alt_text("a.jpg").evaluate("picture => picture.getBoundingClientRect().width"))

        small = width()
        assert small < 300
        page.get_by_alt_text("a.jpg").click()
        assert width() > 900
        page.keyboard.press("Enter")
        assert width() == small
        page.keyboard.press("Enter")
        assert width() > 900
        page.mouse.click(5, 5)  # beside it
        assert width() == small
        browser.close()


def test_a_picture_becomes_small_from_bytes_and_from_its_file_and_what_is_none_becomes_nothing(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (2_000, 500), (200, 30, 30, 128)).save(out, "PNG")
    (tmp_path / "a.png").write_bytes(out.getvalue())
    for small in (thumbnail(out.getvalue(), None, max_pixels=10**7), thumbnail(None, str(tmp_path / "a.png"), max_pixels=10**7)):
        assert small is not None
        with Image.open(io.BytesIO(small)) as image:
            assert (image.format, image.size) == ("JPEG", (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS // 4))
    assert thumbnail(out.getvalue(), None, max_pixels=1_000) is None  # a bomb, for all that is known
    assert thumbnail(b"no picture", None, max_pixels=10**7) is None
    assert thumbnail(None, str(tmp_path / "none.png"), max_pixels=10**7) is None
