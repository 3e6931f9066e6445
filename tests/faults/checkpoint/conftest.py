"""A process whose forks write checkpoints and are killed."""

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.tally import TALLY
from unison.checkpoint import read_checkpoint, write_checkpoint

SCRIPT = Path(__file__).with_name("writer_process.py")


class WriterProcess:
    """Sends jobs to `writer_process.py` and returns its answers."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        functions = runpy.run_path(str(SCRIPT))
        self._contents, self._generation_of = functions["contents"], functions["generation_of"]

    def run(self, do: str, path: Path, **job: Any) -> dict[str, Any]:
        """Run one job to its end or its death; a fork that fails by itself fails the test."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, "path": str(path), **job}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert not answer["failed"], "the writing process failed, see its traceback"
        return answer

    def read(self, path: Path) -> int:
        """The generation of the checkpoint, which must be whole."""
        checkpoint = read_checkpoint(path)
        return self._generation_of(checkpoint.parts, checkpoint.metadata)

    def write(self, path: Path, generation: int) -> None:
        """Write a generation from this process, and check that nothing else is left beside it."""
        write_checkpoint(path, self._contents(generation), {"generation": generation}, fsync=False)
        assert self.read(path) == generation
        assert [entry.name for entry in path.parent.iterdir()] == [path.name], "leftovers were not swept"

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was tried. A test that found anything lost or half-read has failed."""
    if TALLY:
        terminalreporter.section("faults tried")
        for what, count in sorted(TALLY.items()):
            terminalreporter.write_line(f"{count:>6,}  {what}")
        terminalreporter.write_line(f"{TALLY.total():>6,}  in all")


@pytest.fixture(scope="module")
def writer() -> Iterator[WriterProcess]:
    process = WriterProcess()
    yield process
    process.close()


@pytest.fixture(scope="module")
def trainer() -> Iterator[WriterProcess]:
    """One whose forks find an algorithm built."""
    process = WriterProcess("algorithm")
    yield process
    process.close()
