import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.runs import tiny_config
from unison.algorithms.run_folder import TrainingRun
from unison.cli.main import run


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Command:
    """The command line, in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str | Path) -> Result:
        self._capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = self._capfd.readouterr()
        return Result(code, out, err)


@pytest.fixture
def unison(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs a command of the command line, in an empty folder, and says what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "120")
    return Command(capfd)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four iterations; not to be changed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    config = tiny_config().evaluation(evaluation_interval=1)
    config.checkpointing(checkpoint_interval=1, keep_best_by="evaluation/episode_return_mean")
    list(TrainingRun(config, out, stop_steps=256))
    return out
