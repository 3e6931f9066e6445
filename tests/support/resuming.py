"""Whether a run that is resumed in a new process is the run that was never stopped, bit for bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from unison import Algorithm
from unison.types import tree_items

ITERATIONS = 3
_RESUME = """
import json, sys; sys.path.insert(0, sys.argv[1])
from support.resuming import ITERATIONS, train
import unison
algorithm = getattr(unison, sys.argv[2]).from_checkpoint(sys.argv[3])
print(json.dumps(train(algorithm, ITERATIONS)))
algorithm.save_state(sys.argv[4]); algorithm.stop()
"""


def train(algorithm: Algorithm, iterations: int) -> list[dict[str, Any]]:
    """The results of some iterations, without what time decides."""
    return [untimed(algorithm.train()) for _ in range(iterations)]


def untimed(results: dict[str, Any]) -> dict[str, Any]:
    """Results without seconds and speeds."""
    return {name: value for name, value in tree_items(results) if not any(word in name for word in ("second", "time"))}


def state_of(algorithm: Algorithm) -> dict[str, Any]:
    """Everything that training goes on from, by path."""
    parts = {name: part.get_state() for name, part in algorithm.parts.items()}
    return dict(
        tree_items({"group": algorithm.learner_group.get_state(), "parts": parts, **algorithm.get_sampling_state()})
    )


def assert_identical(first: dict[str, Any], second: dict[str, Any]) -> None:
    """The same names, the same bits."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, second[name], err_msg=name)
        elif isinstance(value, list):
            assert_identical(*(dict(tree_items(dict(enumerate(items)))) for items in (value, second[name])))
        else:
            assert value == second[name] or (value != value and second[name] != second[name]), name


def check_resumed(straight: Algorithm, folder: Path) -> None:
    """Save, and train on; then train on from what was saved, in a new process that is told nothing else."""
    straight.save_state(folder / "half")
    expected = train(straight, ITERATIONS)
    straight.save_state(folder / "whole")
    arguments = [str(Path(__file__).parent.parent), type(straight).__name__]
    done = subprocess.run(
        [sys.executable, "-c", _RESUME, *arguments, str(folder / "half"), str(folder / "resumed")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(json.loads(done.stdout.splitlines()[-1]), expected, strict=True):
        assert_identical(theirs, ours)
    straight.load_state(folder / "resumed")
    after = state_of(straight)
    straight.load_state(folder / "whole")
    assert_identical(state_of(straight), after)
