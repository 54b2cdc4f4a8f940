"""Results as a table for people, as JSON, and as a chart."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.bench import Outcome

MOST_COLUMNS = 9  # with more, contenders and figures change places


def table(outcome: Outcome) -> str:
    """A Markdown table: a line for each contender, a column for each figure; medians, and half the spread."""
    figures = list(dict.fromkeys(figure for found in outcome.results.values() for figure in found))
    lines = [["", *figures]]
    for name, found in outcome.results.items():
        lines.append([name, *(str(found[figure]) if figure in found else "" for figure in figures)])
    if len(figures) > MOST_COLUMNS:
        lines = [list(line) for line in zip(*lines, strict=True)]
    return "\n".join([f"### {outcome.title}", "", markdown(lines), "", *(f"- {said}" for said in outcome.conclusions)])


def markdown(lines: list[list[str]]) -> str:
    """Lines of cells as a table; the first line is its head."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, " | ".join("-" * max(3, width) for width in widths))
    return "\n".join(f"| {line} |" for line in text)


def keep(name: str, outcome: Outcome, folder: Path) -> None:
    """NAME.md, NAME.json and NAME.png in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(table(outcome) + "\n")
    numbers = {who: {what: series.values for what, series in found.items()} for who, found in outcome.results.items()}
    (folder / f"{name}.json").write_text(
        json.dumps({"title": outcome.title, "results": numbers, "conclusions": outcome.conclusions}, indent=1)
    )
    if outcome.drawn:
        draw(outcome, folder / f"{name}.png")


def draw(outcome: Outcome, path: Path) -> None:
    """Bars of one figure's medians; a line from the lowest to the highest."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    shown = {name: found[outcome.drawn] for name, found in outcome.results.items() if outcome.drawn in found}
    figure = Figure(figsize=(8, 1 + 0.4 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    medians = [series.median for series in shown.values()]
    below = [series.median - min(series.values) for series in shown.values()]
    above = [max(series.values) - series.median for series in shown.values()]
    axes.barh(list(shown), medians, xerr=[below, above], color="#3b7ea1", capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel(outcome.drawn)
    axes.set_title(outcome.title)
    figure.savefig(path, dpi=120)
