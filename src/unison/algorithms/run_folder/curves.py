"""Learning curves: read from run folders, and grouped by what was trained."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast, final

import numpy as np
import numpy.typing as npt
import yaml

from unison.algorithms.run_folder.folder import RunFolder
from unison.algorithms.run_folder.rows import EVALUATION_RETURN, STEPS, TRAINING_RETURN, get_number
from unison.errors import ConfigError

Array: TypeAlias = npt.NDArray[np.float64]

_IRRELEVANT = ("debugging", "reporting", "checkpointing", "fault_tolerance")
"""Sections that do not change what is learned, but for the seed."""
_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """A result over time.

    Attributes:
        steps: environment steps [T], growing.
        values: the result there [T].
    """

    steps: Array
    values: Array

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class RunCurves:
    """The curves of one run.

    Attributes:
        settings: its config, as plain data.
        stop_return: the goal, if it has one.
        training: mean return of the last training episodes.
        evaluation: mean return of evaluations.
    """

    settings: Mapping[str, Any]
    stop_return: float | None
    training: Curve
    evaluation: Curve


@final
class Group:
    """Runs that differ at most by their seed.

    Args:
        runs: at least one.
    """

    def __init__(self, runs: Sequence[RunCurves]) -> None:
        self.runs = list(runs)
        self.settings = _relevant(self.runs[0].settings)
        self.label = ""
        """What sets it apart from the other groups of its environment."""

    @property
    def algorithm(self) -> str:
        """The name of the algorithm."""
        return str(self.runs[0].settings.get("algorithm_name"))

    @property
    def environment(self) -> str:
        """The name of the environment."""
        env: Any = self.runs[0].settings.get("environment", {}).get("env")
        if isinstance(env, dict):  # a class or function: {"$import": "module:Name"}
            env = next(iter(cast("dict[str, Any]", env).values()))
        return str(env).rpartition(":")[2]

    @property
    def goal(self) -> float | None:
        """The goal of its runs, if they agree on one."""
        goals = {run.stop_return for run in self.runs}
        return goals.pop() if len(goals) == 1 else None


def read_curves(folder: RunFolder) -> RunCurves:
    """The curves of a run.

    Raises:
        ConfigError: there is no run, or it has no metrics yet.
    """
    folder.check()
    rows = folder.read_rows()
    if not rows:
        raise ConfigError(f"{folder.path} has no metrics yet: neither metrics.jsonl nor metrics.csv holds a row.")
    settings: Any = yaml.safe_load(folder.config_file.read_text(encoding="utf-8"))
    return RunCurves(
        settings,
        folder.read_stop().stop_return,
        _curve(rows, TRAINING_RETURN),
        _curve(rows, EVALUATION_RETURN),
    )


def group_runs(runs: Sequence[RunCurves]) -> list[Group]:
    """Put together the runs whose configs differ at most by the seed, and label the groups by what differs."""
    by_settings: dict[str, list[RunCurves]] = {}
    for run in runs:
        by_settings.setdefault(json.dumps(_relevant(run.settings), sort_keys=True), []).append(run)
    groups = [Group(members) for members in by_settings.values()]
    for environment in {group.environment for group in groups}:
        peers = [group for group in groups if group.environment == environment]
        flat = [_flat(group.settings) for group in peers]
        names = sorted({name for settings in flat for name in settings})
        differing = [name for name in names if len({json.dumps(settings.get(name)) for settings in flat}) > 1]
        for group, settings in zip(peers, flat, strict=True):
            said = [f"{name.split('.', 1)[-1]}={_shown(settings.get(name))}" for name in differing]
            group.label = ", ".join(said[:4]) or group.algorithm
    return groups


def spread(curves: Sequence[Curve]) -> tuple[Array, Array]:
    """Several curves on one grid of steps, from where all have begun to where the first ends.

    Returns:
        The grid [T], and the values of each curve [N, T], interpolated.
    """
    start = max(curve.steps[0] for curve in curves)
    stop = min(curve.steps[-1] for curve in curves)
    grid: Array = np.linspace(float(start), float(max(start, stop)), _POINTS)
    return grid, np.stack([np.interp(grid, curve.steps, curve.values) for curve in curves])


def _curve(rows: Sequence[Mapping[str, Any]], path: str) -> Curve:
    points = [(get_number(row, STEPS), get_number(row, path)) for row in rows]
    known = np.array([(steps, value) for steps, value in points if steps is not None and value is not None])
    known = known.reshape(-1, 2).astype(np.float64)
    return Curve(known[:, 0], known[:, 1])


def _relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {section: values for section, values in settings.items() if section not in _IRRELEVANT}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            made |= _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            made[f"{prefix}{key}"] = value
    return made


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
