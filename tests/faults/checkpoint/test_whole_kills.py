"""An Algorithm or a run that SIGKILL ends leaves its last whole checkpoint, and goes on as if never killed."""

import itertools
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.runs import read_rows, without_times
from support.tally import TALLY
from unison.algorithms.run_folder import RunFolder
from unison.checkpoint import CheckpointKeeper, read_checkpoint

STEPS = 40 * 64
RUNS = 2


def contents(path: Path) -> dict[str, Any]:
    """The digest of each part; of the counters, which hold the time, the iteration."""
    checkpoint = read_checkpoint(path)
    digests: dict[str, Any] = {entry.part: entry.sha256 for entry in checkpoint.manifest.files.values()}
    return digests | {"algorithm": checkpoint.parts["algorithm"]["iteration"]}


@pytest.mark.parametrize(
    ("case", "background"), [("new", False), ("replacing", True)], ids=["new, foreground", "replacing, background"]
)
def test_kill_at_every_step_of_saving(trainer: Any, tmp_path: Path, background: bool, case: str) -> None:
    """What is found is bit for bit the whole old or the whole new one."""
    for generation in (1, 2):
        trainer.run("save_algorithm", tmp_path / f"whole{generation}", generation=generation, background=False)
    old, new = contents(tmp_path / "whole1"), contents(tmp_path / "whole2")
    same = {part for part in old if old[part] == new[part]}
    assert same <= {"evaluator", "rng"}, "almost every part tells the two apart"
    found_old = 0
    for step in itertools.count(1):
        path = tmp_path / f"{step}" / "checkpoint"
        if case == "replacing":
            shutil.copytree(tmp_path / "whole1", path)
        answer = trainer.run("save_algorithm", path, generation=2, background=background, kill_at=step)
        found = contents(path) if case == "replacing" or path.exists() else None
        assert found in ((None if case == "new" else old), new)
        found_old += found != new
        if not answer["killed"]:
            assert found == new
            break
    TALLY[f"kills at each step of saving an Algorithm in the {'back' if background else 'fore'}ground"] += step - 1
    assert found_old > 40, "saving was expected to take more steps than that"


def test_a_run_that_is_killed_again_and_again_has_the_curve_of_one_that_never_was(trainer: Any, tmp_path: Path) -> None:
    trainer.run("train_run", tmp_path / "straight", steps=STEPS)
    expected = [without_times(row) for row in read_rows(tmp_path / "straight")]
    assert [row["training_iteration"] for row in expected] == list(range(1, 41))
    generator, kills = random.Random(0), 0
    for number in range(RUNS):
        folder = tmp_path / f"killed{number}"
        while True:
            answer = trainer.run("train_run", folder, steps=STEPS, delay=generator.uniform(0.05, 0.6))
            if not answer["killed"]:
                break
            kills += 1
            if RunFolder(folder).holds_a_run:
                keeper = CheckpointKeeper(folder / "checkpoints")
                for path in keeper.checkpoints():
                    read_checkpoint(path)  # Whole ones are whole to the last bit.
        rows = read_rows(folder)
        assert [row["training_iteration"] for row in rows] == list(range(1, 41)), "a gap, or a row twice"
        assert [without_times(row) for row in rows] == expected
        names = [sorted(path.name for path in (f / "checkpoints").iterdir()) for f in (folder, tmp_path / "straight")]
        assert names[0] == names[1]
        last = f"checkpoints/{names[0][-1]}"
        assert contents(folder / last) == contents(tmp_path / "straight" / last)
    TALLY["kills of a run, each time resumed"] += kills
    assert kills > 2 * RUNS  # how many depends on how fast the machine trains
