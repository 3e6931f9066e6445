"""A result: printed as tables, kept as JSON, Markdown and a picture, with the date and the hardware."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.machine import describe_machine

RESULTS = Path(__file__).parents[1] / "results"
Row = Sequence[str]


def finish(figure: Any) -> None:
    """The same small labels, grid and legends on all axes of a figure of curves."""
    for axes in figure.axes:
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    figure.tight_layout()


class Report:
    """Tables and pictures of one benchmark.

    Args:
        name: what its files are called, before the date.
        title: the heading.
        about: what was measured, and how.
    """

    def __init__(self, name: str, title: str, about: str) -> None:
        self.name, self.title, self.about = name, title, about
        self.data: dict[str, Any] = {}
        """What the JSON file holds beside the machine."""
        self.notes: list[str] = []
        """Lines below the tables: what was left out, and what to mind."""
        self._tables: list[tuple[str, Row, list[Row]]] = []
        self._pictures: dict[str, Callable[[Any], None]] = {}

    def add_table(self, title: str, header: Row, rows: Sequence[Row]) -> None:
        """Add a table of strings."""
        self._tables.append((title, list(header), [list(row) for row in rows]))

    def add_picture(self, suffix: str, draw: Callable[[Any], None]) -> None:
        """Add a picture that `draw` makes on a matplotlib Figure; its file is named `<name>_<suffix>_<date>.png`."""
        self._pictures[suffix] = draw

    def show(self) -> None:
        """Print it."""
        print(f"\n{self.title}\n{self.about}")
        for title, header, rows in self._tables:
            print(f"\n{title}" if title else "")
            widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
            for row in [header, ["-" * width for width in widths], *rows]:
                cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
                print("  ".join(cells).rstrip())
        for note in self.notes:
            print(f"- {note}")

    def write(self, folder: Path | None = None) -> list[Path]:
        """Write all files; returns their paths. Pictures need matplotlib and are left out without it."""
        folder = RESULTS if folder is None else folder
        folder.mkdir(parents=True, exist_ok=True)
        stem, date = self.name, f"{datetime.now(UTC):%Y-%m-%d}"
        machine = describe_machine()
        written: list[Path] = []
        for suffix, draw in self._pictures.items():
            path = folder / f"{stem}{'_' if suffix else ''}{suffix}_{date}.png"
            if _save(draw, path):
                written.append(path)
        pictures = [path.name for path in written]
        markdown = folder / f"{stem}_{date}.md"
        markdown.write_text(self._markdown(machine, pictures), encoding="utf-8")
        plain = folder / f"{stem}_{date}.json"
        tables = [{"title": t, "header": h, "rows": r} for t, h, r in self._tables]
        content = {"title": self.title, "machine": machine, "tables": tables, "notes": self.notes, **self.data}
        plain.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return [*written, markdown, plain]

    def _markdown(self, machine: dict[str, Any], pictures: list[str]) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        lines = [f"# {self.title}", "", self.about, ""]
        lines += [
            f"{machine['date']}; {machine['cpu']}, {machine['cores']} cores ({machine['simd']}); {machine['system']};"
        ]
        lines += [f"Python {machine['python']}, {versions}; load {machine['load_at_the_end']}.", ""]
        for title, header, rows in self._tables:
            lines += [f"## {title}", ""] if title else []
            lines += [f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]]
            lines.append("")
        lines += [f"- {note}" for note in self.notes]
        lines += [""] if self.notes else []
        lines += [f"![{name}]({name})" for name in pictures]
        return "\n".join(lines).rstrip() + "\n"


def _save(draw: Callable[[Any], None], path: Path) -> bool:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8, 4), dpi=130)
    FigureCanvasAgg(figure)
    draw(figure)
    figure.savefig(path)
    return True


def short(value: float) -> str:
    """A number with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def bar_chart(labels: Sequence[str], values: Sequence[float], *, title: str, unit: str) -> Callable[[Any], None]:
    """A picture of horizontal bars on a logarithmic axis, Unison's in another colour."""

    def draw(figure: Any) -> None:
        figure.set_size_inches(8, 0.9 + 0.34 * len(labels))
        axes = figure.subplots()
        colours = ["tab:blue" if "unison" in label else "tab:gray" for label in labels]
        places = list(range(len(labels)))
        axes.barh(places, values, color=colours)
        axes.set_yticks(places, labels, fontsize=8)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 2, max(values) * 2)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(unit, fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        for place, value in zip(places, values, strict=True):
            axes.text(value * 1.04, place, short(value), va="center", fontsize=8)
        figure.tight_layout()

    return draw
