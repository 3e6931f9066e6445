"""Which checkpoints of a run are kept: the last ones, and the best by a metric."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from unison.checkpoint.atomic import remove, sweep
from unison.checkpoint.reader import is_whole, read_manifest
from unison.checkpoint.writer import write_checkpoint
from unison.errors import CheckpointError, ConfigError
from unison.types import Tree

RESULTS = "results"
"""The key of a checkpoint's metadata under which the results stand that the best one is chosen by."""
_NAME = re.compile(r"checkpoint_(\d{6,})")


class CheckpointKeeper:
    """The checkpoints `checkpoint_000012` of one directory, by number.

    All it knows stands in the checkpoints themselves, so that a new process goes on where a killed one
    ended. Directories that are no whole checkpoints are neither counted nor touched.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep_last: int | None = None,
        keep_best_by: str | None = None,
        mode: Literal["max", "min"] = "max",
    ) -> None:
        """Say what is kept.

        Args:
            directory: Where the checkpoints lie; made when the first is saved.
            keep_last: How many of the newest are kept; None keeps all.
            keep_best_by: The path of a result, such as `"evaluation/episode_return_mean"`; the best
                checkpoint by it is kept however old it is.
            mode: Whether the best is the one with the largest or the smallest result.

        Raises:
            ConfigError: a setting is out of range.
        """
        if keep_last is not None and keep_last < 1:
            raise ConfigError(f"keep_last={keep_last}: at least 1 checkpoint is kept; None keeps all.")
        if mode not in ("max", "min"):
            raise ConfigError(f"mode='{mode}': 'max' or 'min'.")
        self.directory = Path(directory)
        self._keep_last = keep_last
        self._keep_best_by = keep_best_by
        self._sign = 1.0 if mode == "max" else -1.0

    def path(self, number: int) -> Path:
        """The directory of the checkpoint with this number, there or not."""
        return self.directory / f"checkpoint_{number:06d}"

    def save(
        self,
        number: int,
        parts: Mapping[str, Tree],
        metadata: Mapping[str, object],
        results: Mapping[str, object] | None = None,
    ) -> Path:
        """Write a checkpoint, then delete those that need not be kept.

        Whoever writes to `path(number)` by other means puts the results into the metadata under
        `"results"` and calls `prune`.

        Raises:
            CheckpointError: as `write_checkpoint`; then nothing was deleted.
        """
        path = self.path(number)
        write_checkpoint(path, parts, {**metadata, RESULTS: dict(results or {})})
        self.prune(path)
        return path

    def checkpoints(self) -> list[Path]:
        """The whole checkpoints, the oldest first."""
        if not self.directory.is_dir():
            return []
        sweep(self.directory)
        numbered = [(int(match[1]), p) for p in self.directory.iterdir() if (match := _NAME.fullmatch(p.name))]
        return [path for _, path in sorted(numbered) if is_whole(path)]

    def latest(self) -> Path | None:
        """The whole checkpoint with the highest number, or None."""
        whole = self.checkpoints()
        return whole[-1] if whole else None

    def best(self) -> Path | None:
        """The whole checkpoint with the best result, the newest of equals; None if none has that result."""
        return self._best(self.checkpoints())

    def score(self, results: Mapping[str, object]) -> float | None:
        """How good a checkpoint with these results is, larger is better; None if nothing says so."""
        if self._keep_best_by is None:
            return None
        value: Any = results
        for key in self._keep_best_by.split("/"):
            if not isinstance(value, Mapping):
                return None
            value = cast("Mapping[str, Any]", value).get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            return None
        return self._sign * value

    def best_score(self) -> float | None:
        """The score of the best whole checkpoint; None if none has one."""
        return max((s for path in self.checkpoints() if (s := self._score(path)) is not None), default=None)

    def prune(self, newest: Path | None = None) -> list[Path]:
        """Delete all but the last ones, the best one and the one that was just written; return what was deleted.

        The oldest goes first, and each vanishes from its name in one step: killed at any moment, this
        leaves whole checkpoints only, and all that are to be kept.
        """
        whole = self.checkpoints()
        kept = set(whole if self._keep_last is None else whole[-self._keep_last :]) | {self._best(whole), newest}
        deleted = [path for path in whole if path not in kept]
        for path in deleted:
            remove(path)
        return deleted

    def _best(self, whole: list[Path]) -> Path | None:
        scored = [(score, age, path) for age, path in enumerate(whole) if (score := self._score(path)) is not None]
        return max(scored)[2] if scored else None

    def _score(self, path: Path) -> float | None:
        """The score of a checkpoint; None where it has none."""
        if self._keep_best_by is None:
            return None
        try:
            results: object = read_manifest(path).metadata.get(RESULTS)
        except CheckpointError:
            return None
        return self.score(cast("Mapping[str, object]", results)) if isinstance(results, Mapping) else None
