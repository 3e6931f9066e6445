"""Learning curves as a picture (the extra `plots`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unison.algorithms.run_folder.curves import Curve, Group, group_runs, read_curves, spread
from unison.algorithms.run_folder.extras import require
from unison.algorithms.run_folder.folder import RunFolder
from unison.errors import ConfigError

# Okabe & Ito's colours, which people with any colour vision can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY = "#666666"


def plot_runs(folders: Sequence[RunFolder], path: Path, *, title: str | None = None) -> None:
    """Draw the learning curves of runs as a PNG (or what the ending of `path` says).

    Runs that differ only by their seed are one curve: the mean, the range over the seeds, and each seed
    as a thin line. The mean ends where the first run ends. Each environment has a panel of its own.

    Args:
        folders: the runs.
        path: the picture.
        title: replaces "PPO on CartPole-v1".

    Raises:
        ConfigError: a folder holds no run, or no episode has ended in any.
        MissingExtraError: matplotlib is not installed.
    """
    metadata = {"Software": "Unison"} if path.suffix == ".png" else None
    draw_runs(folders, title=title).savefig(path, dpi=150, metadata=metadata)


def draw_runs(folders: Sequence[RunFolder], *, title: str | None = None) -> Any:
    """The figure that `plot_runs` saves."""
    figure_module = require("matplotlib.figure", "plots", "Drawing learning curves")
    groups = group_runs([read_curves(folder) for folder in folders])
    if not any(len(run.training) or len(run.evaluation) for group in groups for run in group.runs):
        raise ConfigError("There is nothing to draw yet: no episode has ended.")
    environments = list(dict.fromkeys(group.environment for group in groups))
    figure: Any = figure_module.Figure(figsize=(7.2 * len(environments), 4.4), layout="constrained")
    panels: Any = figure.subplots(1, len(environments), squeeze=False)[0]
    for panel, environment in zip(panels, environments, strict=True):
        peers = [group for group in groups if group.environment == environment]
        _draw_panel(panel, peers)
        algorithms = dict.fromkeys(group.algorithm.upper() for group in peers)
        panel.set_title(title or f"{' and '.join(algorithms)} on {environment}", loc="left", weight="bold")
    return figure


def _draw_panel(panel: Any, groups: Sequence[Group]) -> None:
    if len(groups) == 1:
        what = "return of an episode"
        runs = groups[0].runs
        _draw(panel, [run.training for run in runs], _COLOURS[0], "training episodes")
        _draw(panel, [run.evaluation for run in runs], _COLOURS[1], "evaluation", marker="o")
    else:
        evaluated = all(len(run.evaluation) for group in groups for run in group.runs)
        what = "return in evaluation" if evaluated else "return in training"
        for number, group in enumerate(groups):
            curves = [run.evaluation if evaluated else run.training for run in group.runs]
            _draw(panel, curves, _COLOURS[number % len(_COLOURS)], group.label)
    for goal in {group.goal for group in groups if group.goal is not None}:
        panel.axhline(goal, color=_GREY, linestyle=(0, (5, 3)), linewidth=1.2, label=f"goal: {goal:g}", zorder=1)
    panel.set_xlabel("environment steps")
    panel.set_ylabel(f"{what} (mean)")
    panel.xaxis.set_major_formatter(_thousands)
    panel.set_xlim(left=0)
    panel.margins(x=0.02)
    panel.grid(visible=True, color="#dddddd", linewidth=0.7)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.legend(frameon=False, loc="best")


def _draw(panel: Any, curves: Sequence[Curve], colour: str, label: str, marker: str | None = None) -> None:
    drawn = [curve for curve in curves if len(curve)]
    if not drawn:
        return
    if len(drawn) == 1:
        steps, values = drawn[0].steps, drawn[0].values
        panel.plot(steps, values, color=colour, linewidth=1.8, label=label, marker=marker, markersize=4)
        return
    for curve in drawn:
        panel.plot(curve.steps, curve.values, color=colour, linewidth=0.7, alpha=0.45)
    grid, values = spread(drawn)
    panel.fill_between(grid, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    panel.plot(
        grid, values.mean(0), color=colour, linewidth=2.0, label=f"{label} (mean and range of {len(drawn)} seeds)"
    )


def _thousands(value: float, _: Any = None) -> str:
    """123000 as 123k, 2500000 as 2.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
