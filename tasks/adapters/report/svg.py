"""What charts are drawn with: a canvas of matplotlib's that becomes inline SVG, coloured by the page that it stands in.

matplotlib draws in sentinel colours, which become CSS variables, and writes a token wherever text from
outside belongs, which becomes that text afterwards: matplotlib would read a `$` as mathematics, and warn
about every letter that its own font lacks.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Tone = Literal["one", "two", "calm", "warn", "bad", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"]
GROUPS: tuple[Tone, ...] = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")  # of kinds that have no order; c8 is that of all others
WIDTH = 420.0  # user units; the page scales it, and 12 units of type stay readable on a telephone
SMALL, LARGE = 11.0, 12.5
INK = "#010203"
TONES: dict[Tone, str] = {
    "one": "#0a0101",
    "two": "#0a0102",
    "calm": "#0a0103",
    "warn": "#0a0104",
    "bad": "#0a0105",
    **{tone: f"#0b010{place}" for place, tone in enumerate(GROUPS, 1)},
}
_settings = threading.Lock()  # matplotlib's settings are the process's; several runs may report at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """A figure, and what the tokens in it stand for."""

    figure: Figure
    words: list[str] = field(default_factory=list)

    def token(self, text: str) -> str:
        """What is drawn in the place of a text."""
        self.words.append(text)
        return f"token{len(self.words) - 1}"


def shorten(text: str, most: int) -> str:
    """At most so many characters, cut in the middle: the ends of a path tell most. Control characters become spaces."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: 50 * most])
    if len(plain) <= most:
        return plain
    head = (most - 1) // 3
    return f"{plain[:head]}…{plain[len(plain) - (most - 1 - head) :]}"


def compact(number: float) -> str:
    """1234 as 1.2k: for axes."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def canvas_of(*, height: float) -> Canvas:
    """An empty drawing, WIDTH wide."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second's import that only the report needs

    return Canvas(figure=Figure(figsize=(WIDTH / 72, height / 72), dpi=72))


def axes_on(canvas: Canvas, box: tuple[float, float, float, float], *, axis_off: bool = False) -> Axes:
    """Axes in a box: left, bottom, width, height in units."""
    wide, high = canvas.figure.get_size_inches() * 72
    axes = canvas.figure.add_axes((box[0] / wide, box[1] / high, box[2] / wide, box[3] / high))
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=INK, pad=6)
    axes.spines[:].set_visible(False)
    if axis_off:
        axes.set_axis_off()
    return axes


def units_of(axes: Axes) -> object:
    """Points from the axes' lower left corner, whatever the data."""
    from matplotlib.transforms import Affine2D  # noqa: PLC0415 - as above

    return Affine2D().translate(axes.bbox.x0, axes.bbox.y0)


def grid_on(axes: Axes, which: Literal["x", "y"]) -> None:
    """Faint lines at round numbers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415 - as above

    axes.grid(axis=which, color=INK, alpha=0.12, linewidth=0.8, clip_on=False)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))


def clock_on(axes: Axes, *, shown: bool) -> None:
    """Ticks at round times, written as 90 s are: 1:30."""
    end = axes.get_xlim()[1]
    steps = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
    step = next((s for s in steps if end / s <= 6), max(end / 6, 1))
    ticks = [step * n for n in range(int(end / step) + 1)]
    axes.set_xticks(ticks, [clock(tick) if shown else "" for tick in ticks])


def clock(seconds: float) -> str:
    """90 as 1:30, 3700 as 1:01:40, and what is under a minute in seconds."""
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def svg_of(canvas: Canvas, key: str, title: str, description: str) -> str:
    """The drawing as an element of a page, with its title and description; `key` makes their ids its own."""
    from matplotlib import rc_context  # noqa: PLC0415 - as above

    drawn = io.StringIO()
    no_date = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _settings, rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        canvas.figure.savefig(drawn, format="svg", transparent=True, metadata=no_date)
    root = ET.fromstring(drawn.getvalue())  # noqa: S314 - our own drawing, in which outside text is still tokens
    _adapt(root, canvas.words)
    for tag, text in (("desc", description), ("title", title)):
        element = ET.Element(tag, {"id": f"{key}-{tag}"})
        element.text = shorten(text, 2000)
        root.insert(0, element)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "class": "chart", "role": "img", "aria-labelledby": f"{key}-title {key}-desc"})
    return ET.tostring(root, encoding="unicode")


def _adapt(parent: ET.Element, words: Sequence[str]) -> None:
    """Make a drawing part of a page: the page's colours and letters, no ids, nothing invisible."""
    parent.tag = parent.tag.rpartition("}")[2]
    parent.attrib.pop("id", None)
    if parent.text and (token := re.fullmatch(r"token(\d+)", parent.text)):
        parent.text = words[int(token[1])]
    if "style" in parent.attrib:
        parent.attrib["style"] = _restyled(parent.attrib["style"])
    if "d" in parent.attrib:
        parent.attrib["d"] = re.sub(r"(\.\d\d)\d+", r"\1", " ".join(parent.attrib["d"].split()))
    if parent.get("transform", "").startswith("rotate(-0 "):
        del parent.attrib["transform"]
    for child in list(parent):
        name = child.tag.rpartition("}")[2]
        if name in ("defs", "metadata") or child.get("style") == "fill: none":
            parent.remove(child)
        else:
            _adapt(child, words)


def _restyled(style: str) -> str:
    style = re.sub(r"font-family:[^;]*;?\s*", "", style)
    style = style.replace(INK, "currentColor")
    for tone, sentinel in TONES.items():
        style = style.replace(sentinel, f"var(--{tone})")
    return style
