"""Results as rows: nested dicts made flat, and rows in files read back."""

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

Scalar: TypeAlias = float | int | str | bool | None
Row: TypeAlias = dict[str, Scalar]
"""The results of one iteration, by path: `"env_runners/episode_return_mean"`."""

ITERATION = "training_iteration"
STEPS = "num_env_steps_sampled_lifetime"
SECONDS = "time_total_s"
TRAINING_RETURN = "env_runners/episode_return_mean"
EVALUATION_RETURN = "evaluation/episode_return_mean"
CONFIRMATION_RETURN = "confirmation/episode_return_mean"


def plain(results: Mapping[str, Any]) -> dict[str, Any]:
    """The nested results as JSON takes them: NaN becomes None, what is neither number nor string is left out."""
    made: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            made[key] = plain(cast("Mapping[str, Any]", value))
        elif value is None or isinstance(value, str | bool | int):
            made[key] = value
        else:
            number: Any = cast("Any", value.item()) if isinstance(value, np.generic) else value
            if isinstance(number, float | int):
                made[key] = number if math.isfinite(number) else None
    return made


def flatten(results: Mapping[str, Any]) -> Row:
    """The same, each by its path."""
    return dict(_items(plain(results), ""))


def _items(results: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Scalar]]:
    for key, value in results.items():
        if isinstance(value, dict):
            yield from _items(cast("dict[str, Any]", value), f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def get_number(row: Mapping[str, Any], path: str) -> float | None:
    """The number under a path, or None where there is none."""
    value = row.get(path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read_rows(folder: Path) -> list[Row]:
    """The rows of a run folder, from its JSON lines or else its CSV; a half-written last line is passed over."""
    lines, table = folder / "metrics.jsonl", folder / "metrics.csv"
    if lines.exists():
        return read_jsonl(lines)
    return read_csv(table) if table.exists() else []


def read_jsonl(path: Path) -> list[Row]:
    """The whole lines of a file of JSON lines."""
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the line that a kill cut off
            continue
        if isinstance(row, dict):
            rows.append(cast("Row", row))
    return rows


def read_csv(path: Path) -> list[Row]:
    """The rows of a CSV file that have an iteration, numbers as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: _parse(text) for name, text in raw.items() if name and text} for raw in csv.DictReader(file)]
    return [row for row in rows if isinstance(row.get(ITERATION), int)]


def _parse(text: str) -> Scalar:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def up_to(rows: Iterable[Row], last_iteration: int) -> list[Row]:
    """The rows of no later iteration than this."""
    return [row for row in rows if (get_number(row, ITERATION) or 0) <= last_iteration]


def replace_file(path: Path, text: str) -> None:
    """Write a file in one step: at every moment the old or the new text stands there, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="")
    os.replace(temporary, path)
