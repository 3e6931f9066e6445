"""The command `plot`: learning curves of runs."""

from collections.abc import Sequence
from pathlib import Path

from unison.algorithms.run_folder import RunFolder
from unison.algorithms.run_folder.plotting import plot_runs
from unison.errors import ConfigError


def draw(paths: Sequence[Path], *, out: Path | None, title: str | None) -> None:
    """Draw the runs of these folders, and of the folders in them.

    Raises:
        ConfigError: a path holds no run, or the picture cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    runs = [run for path in paths for run in _runs(path)]
    if out is None:
        out = runs[0].curve_file if len(runs) == 1 else Path("learning_curve.png")
    try:
        plot_runs(runs, out, title=title)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"Cannot write the picture {out}: {error}. Choose another: --out FILE.png") from error
    print(f"{out}: {len(runs)} run{'s' if len(runs) > 1 else ''}")


def _runs(path: Path) -> list[RunFolder]:
    folder = RunFolder(path)
    if folder.holds_a_run or not path.is_dir():
        folder.check()
        return [folder]
    inner = [RunFolder(each) for each in sorted(path.iterdir()) if RunFolder(each).holds_a_run]
    if not inner:
        folder.check()
    return inner
