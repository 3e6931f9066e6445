"""A writer that is killed with SIGKILL leaves the last whole checkpoint, at every step and at random moments."""

import itertools
import json
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from support.tally import TALLY
from unison.checkpoint import CheckpointKeeper, read_checkpoint

RANDOM_KILLS = 60


@pytest.mark.parametrize("torn", [False, True], ids=["step", "torn"])
@pytest.mark.parametrize("case", ["new", "replacing", "replacing without exchange"])
def test_kill_at_every_step_of_writing(writer: Any, tmp_path: Path, case: str, torn: bool) -> None:
    path = tmp_path / "runs" / "checkpoint"
    outcomes = {"old": 0, "new": 0}
    for step in itertools.count(1):
        old, new = 2 * step, 2 * step + 1
        if case == "new":
            path = tmp_path / str(step) / "checkpoint"
        else:
            writer.write(path, old)
        answer = writer.run("write", path, generation=new, kill_at=step, torn=torn, exchange="without" not in case)
        found = writer.read(path) if case != "new" or path.exists() else None
        assert found in (None if case == "new" else old, new)
        outcomes["new" if found == new else "old"] += 1
        writer.write(path, new)
        if not answer["killed"]:
            break
    TALLY["kills at each step of writing a bare checkpoint"] += step - 1
    assert outcomes["old"] > (8 if torn else 30), "the writer was expected to take more steps than that"
    assert outcomes["new"] > (0 if torn else 3)


def test_kill_at_random_moments(writer: Any, tmp_path: Path) -> None:
    generator = random.Random(0)
    path = tmp_path / "checkpoint"
    last = 0
    for _ in range(RANDOM_KILLS):
        answer = writer.run("write_forever", path, generation=last + 1, floats=50_000, delay=generator.uniform(0, 0.03))
        assert answer["killed"]
        finished = max([last, *map(int, answer["reports"])])
        if finished or path.exists():
            found = writer.read(path)
            assert finished <= found <= finished + 1, "a checkpoint that was written is gone"
            last = found
    TALLY["kills at random moments of writing a bare checkpoint"] += RANDOM_KILLS
    assert last >= RANDOM_KILLS
    writer.write(path, last + 1)


@pytest.mark.parametrize("exchange", [True, False])
def test_reading_while_another_process_replaces(writer: Any, tmp_path: Path, exchange: bool) -> None:
    path = tmp_path / "checkpoint"
    writer.write(path, 1)
    job = {"generation": 2, "floats": 100_000, "delay": 1.5, "exchange": exchange}
    thread = threading.Thread(target=lambda: writer.run("write_forever", path, **job))
    thread.start()
    found = [1]
    while thread.is_alive():
        found.append(writer.read(path))
        assert found[-1] >= found[-2]
    assert len(set(found)) > 5, "the reader never met a replacement"


def test_kill_at_every_step_of_keeping(writer: Any, tmp_path: Path) -> None:
    """The keeper saves number 5 and deletes numbers 1 and 3; number 2 is the best, 4 the second last."""
    before = tmp_path / "before"
    for number, score in enumerate((1.0, 9.0, 2.0, 3.0), start=1):
        CheckpointKeeper(before).save(number, {"learner": {}}, {"generation": number}, {"score": score})
    for step in itertools.count(1):
        directory = tmp_path / str(step)
        shutil.copytree(before, directory)
        answer = writer.run("keep", directory, generation=5, score=4.0, kill_at=step)
        keeper = CheckpointKeeper(directory, keep_last=2, keep_best_by="score")
        whole = [path.name[-1] for path in keeper.checkpoints()]
        assert {"2", "4"} <= set(whole), "one that must be kept is gone"
        assert all(read_checkpoint(path).metadata["generation"] for path in keeper.checkpoints())
        assert keeper.best() == directory / "checkpoint_000002"
        assert keeper.latest() == directory / f"checkpoint_00000{whole[-1]}"
        if "5" not in whole:
            assert whole == ["1", "2", "3", "4"], "something was deleted before the new one was whole"
        keeper.prune()
        expected = ["checkpoint_000002", "checkpoint_000004"]
        expected += ["checkpoint_000005"] if "5" in whole else ["checkpoint_000003"]
        assert sorted(entry.name for entry in directory.iterdir()) == sorted(expected)
        if not answer["killed"]:
            break
    assert step > 60
    TALLY["kills at each step of keeping the last and the best"] += step - 1


def test_saving_copies_nothing_and_reading_copies_once(writer: Any, tmp_path: Path) -> None:
    size = 64 << 20
    for job, limit in (("write_large", 0.3), ("read_large", 2.4)):
        peak = json.loads(writer.run(job, tmp_path / "checkpoint", bytes=size)["reports"][-1])["peak"]
        assert peak < limit * size, f"{job} needed {peak / size:.2f} times the bytes of one of its two arrays"
