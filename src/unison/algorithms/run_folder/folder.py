"""The folder of a run: what lies where, and what it says about itself."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import yaml

from unison.algorithms.run_folder.rows import Row, read_rows, replace_file
from unison.algorithms.run_folder.stopping import Outcome, StopConditions
from unison.checkpoint import CheckpointKeeper, is_whole
from unison.checkpoint.atomic import lock
from unison.config import AlgorithmConfig
from unison.errors import CheckpointError, ConfigError


class RunFolder:
    """The files of one run.

        DIR/
            config.yaml                     the settings; `AlgorithmConfig.from_file` reads them
            run.json                        when it is to stop, and how it ended
            metrics.jsonl, metrics.csv      the results of each iteration
            tensorboard/                    the same as events (extra)
            learning_curve.png              (extra)
            checkpoints/checkpoint_000012/  by iteration

    Args:
        path: the folder, there or not.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.run_file = self.path / "run.json"
        self.curve_file = self.path / "learning_curve.png"
        self.checkpoint_folder = self.path / "checkpoints"

    @property
    def holds_a_run(self) -> bool:
        """Whether a run was begun here."""
        return self.config_file.exists() and self.run_file.exists()

    def check_is_free(self) -> None:
        """Raise unless a run can begin here.

        Raises:
            ConfigError: there is a run already, or other files are in the way.
        """
        if self.holds_a_run:
            raise ConfigError(
                f"{self.path} already holds a run. Go on with it: unison train --resume {self.path}, "
                "or choose another folder: --out DIR."
            )
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; choose a folder: --out DIR.")
        if self.path.exists() and any(self.path.iterdir()):
            raise ConfigError(f"{self.path} holds other files; choose an empty or new folder: --out DIR.")

    @contextmanager
    def held(self) -> Generator[None]:
        """Around all that trains here: two processes would drop each other's metrics.

        Raises:
            ConfigError: another process trains here.
        """
        descriptor: int | None = None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = lock(self.path)
        except BlockingIOError as error:
            raise ConfigError(
                f"Another process trains in {self.path}. Wait until it has ended, or end it by Ctrl-C; then go on with "
                f"the run: unison train --resume {self.path}"
            ) from error
        except OSError:
            pass  # A file system without locks; or nothing can be written, as `create` will say.
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def create(self, config: AlgorithmConfig, stop: StopConditions) -> None:
        """Begin a run here.

        Raises:
            ConfigError: as `check_is_free`, or the folder cannot be written.
        """
        self.check_is_free()
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
            replace_file(self.config_file, text)
        self.write_run(stop, None)

    def check(self) -> None:
        """Raise unless there is a run here.

        Raises:
            ConfigError: there is none; says what is there instead.
        """
        if self.holds_a_run:
            return
        if not self.path.exists():
            raise ConfigError(f"There is no folder {self.path}.")
        if is_whole(self.path):
            raise ConfigError(f"{self.path} is a checkpoint. A run goes on from its last one: give the run's folder.")
        missing = " and no ".join(f.name for f in (self.config_file, self.run_file) if not f.exists())
        raise ConfigError(f"{self.path} holds no run: it has no {missing}, which 'unison train' writes.")

    def read_config(self) -> AlgorithmConfig:
        """The settings of the run.

        Raises:
            ConfigError: there is no run, or its settings cannot be read.
        """
        self.check()
        return AlgorithmConfig.from_file(self.config_file)

    def read_stop(self) -> StopConditions:
        """When the run is to stop."""
        return StopConditions.from_dict(self._read_run().get("stop", {}))

    def read_outcome(self) -> dict[str, Any] | None:
        """How the run ended, as `Outcome.to_dict` wrote it; None while it runs, or if it was killed."""
        return self._read_run().get("outcome")

    def write_run(self, stop: StopConditions, outcome: Outcome | None) -> None:
        """Say when the run is to stop, and how it has ended.

        Raises:
            ConfigError: the folder cannot be written.
        """
        content = {
            "stop": stop.to_dict(),
            "outcome": None if outcome is None else outcome.to_dict(),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self._writing():
            replace_file(self.run_file, json.dumps(content, indent=2) + "\n")

    @contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"Cannot write to {self.path}: {error.strerror}. Make it writable, or choose another folder: --out DIR."
            ) from error

    def read_rows(self) -> list[Row]:
        """The metrics of all iterations so far."""
        return read_rows(self.path)

    def latest_checkpoint(self) -> Path | None:
        """The last whole checkpoint, or None where none was ever written.

        Raises:
            CheckpointError: there are checkpoints, but none is whole.
        """
        latest = CheckpointKeeper(self.checkpoint_folder).latest()
        if latest is None and any(self.checkpoint_folder.glob("checkpoint_*")):
            raise CheckpointError(
                f"No checkpoint in {self.checkpoint_folder} is whole: files are missing or cut off. Restore one from a "
                "copy, or train anew in another folder."
            )
        return latest

    def _read_run(self) -> dict[str, Any]:
        self.check()
        try:
            content: Any = json.loads(self.run_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{self.run_file} is damaged: {error}.") from error
        run = cast("dict[str, Any]", content if isinstance(content, dict) else {})
        if not isinstance(run.get("stop"), dict) or not isinstance(run.get("outcome"), dict | None):
            raise ConfigError(f"{self.run_file} is damaged: it does not say when the run is to stop, and how it ended.")
        return run


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that a path means: itself, or the last whole one of a run folder.

    Raises:
        CheckpointError: there is none.
    """
    folder = RunFolder(path)
    if not folder.path.exists():
        raise CheckpointError(f"There is nothing at {path}; give a run folder or a checkpoint.")
    if not folder.holds_a_run:
        if (folder.path / "manifest.json").exists() or is_whole(folder.path):
            return folder.path
        raise CheckpointError(f"{path} is neither a run folder nor a checkpoint.")
    latest = folder.latest_checkpoint()
    if latest is None:
        raise CheckpointError(
            f"{path} holds no whole checkpoint yet; unison train --resume {path} goes on with the run."
        )
    return latest
