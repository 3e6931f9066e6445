"""The keeper names checkpoints, knows the latest and the best, and deletes no other than it says."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from unison.checkpoint import RESULTS, CheckpointKeeper, read_checkpoint, write_checkpoint
from unison.errors import CheckpointError, ConfigError


def save(keeper: CheckpointKeeper, number: int, score: Any = None) -> Path:
    results = {} if score is None else {"evaluation": {"return": score}}
    return keeper.save(number, {"learner": {"number": number}}, {"kind": "test"}, results)


def numbers(directory: Path) -> list[int]:
    return sorted(int(path.name.split("_")[1]) for path in directory.iterdir())


def test_names_and_contents(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path / "checkpoints")
    assert keeper.latest() is None
    assert keeper.best() is None
    assert keeper.checkpoints() == []
    assert keeper.prune() == []
    path = save(keeper, 12, 3.5)
    assert path == keeper.path(12) == tmp_path / "checkpoints" / "checkpoint_000012"
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata == {"kind": "test", RESULTS: {"evaluation": {"return": 3.5}}}
    assert checkpoint.parts == {"learner": {"number": 12}}
    assert keeper.path(1_234_567).name == "checkpoint_1234567"


def test_all_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path)
    for number in range(5):
        save(keeper, number)
    assert numbers(tmp_path) == [0, 1, 2, 3, 4]
    assert keeper.latest() == keeper.path(4)


def test_the_last_are_kept(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path, keep_last=2)
    for number in (1, 5, 999_999, 1_000_000):
        save(keeper, number)
    assert numbers(tmp_path) == [999_999, 1_000_000]
    assert keeper.latest() == keeper.path(1_000_000), "by number, not by text"


def test_what_was_just_saved_is_kept_even_by_one_who_went_back(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path, keep_last=2)
    for number in (19, 20, 6):
        assert save(keeper, number).exists()
    assert numbers(tmp_path) == [6, 19, 20]


def test_keepers_of_one_directory_do_not_stumble_over_each_other(tmp_path: Path) -> None:
    def fill(first: int) -> None:
        keeper = CheckpointKeeper(tmp_path, keep_last=1)
        for number in range(first, 80, 2):
            save(keeper, number)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, (0, 1)))
    assert numbers(tmp_path)[-1] == 79


@pytest.mark.parametrize(("mode", "kept"), [("max", [2, 6]), ("min", [4, 6])])
def test_the_best_is_kept_too(tmp_path: Path, mode: Any, kept: list[int]) -> None:
    keeper = CheckpointKeeper(tmp_path, keep_last=1, keep_best_by="evaluation/return", mode=mode)
    for number, score in enumerate([5.0, 9, 3.0, 1, None, float("nan")], start=1):
        save(keeper, number, score)
    assert numbers(tmp_path) == kept
    assert keeper.best() == keeper.path(kept[0])
    assert keeper.latest() == keeper.path(6)


def test_of_equals_the_newest_is_the_best(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path, keep_best_by="evaluation/return")
    for number in (999_999, 1_000_000):
        save(keeper, number, 1.0)
    assert keeper.best() == keeper.path(1_000_000)


@pytest.mark.parametrize(
    "results", [{}, {"evaluation": 3}, {"evaluation": {"return": "high"}}, {"evaluation": {"return": True}}]
)
def test_a_checkpoint_without_the_result_is_never_the_best(tmp_path: Path, results: Any) -> None:
    keeper = CheckpointKeeper(tmp_path, keep_best_by="evaluation/return")
    keeper.save(1, {}, {}, results)
    assert keeper.best() is None
    save(keeper, 2, float("-inf"))
    assert keeper.best() == keeper.path(2)


def test_a_new_process_knows_the_same(tmp_path: Path) -> None:
    for number, score in enumerate([1.0, 8.0, 2.0]):
        save(CheckpointKeeper(tmp_path), number, score)
    keeper = CheckpointKeeper(tmp_path, keep_last=1, keep_best_by="evaluation/return")
    assert [path.name[-1] for path in keeper.prune()] == ["0"]
    assert keeper.best() == keeper.path(1)
    assert numbers(tmp_path) == [1, 2]


def test_what_is_no_whole_checkpoint_is_neither_counted_nor_touched(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path, keep_last=1)
    keeper.path(7).mkdir()
    (tmp_path / "checkpoint_000008").write_text("a file")
    (tmp_path / "checkpoint_9").mkdir()
    (tmp_path / "notes").mkdir()
    write_checkpoint(tmp_path / "other", {}, {})
    save(keeper, 5)
    shutil.copytree(keeper.path(5), keeper.path(6))
    (keeper.path(6) / "learner.safetensors").write_bytes(b"")
    assert keeper.checkpoints() == [keeper.path(5)]
    assert keeper.prune() == []
    assert keeper.latest() == keeper.path(5)
    save(keeper, 10)
    named = [f"checkpoint_{number}" for number in ("000006", "000007", "000008", "000010", "9")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*named, "notes", "other"]


def test_a_failed_save_deletes_nothing(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path, keep_last=1)
    save(keeper, 1)
    with pytest.raises(CheckpointError):
        keeper.save(2, {"learner": {"bad": object()}}, {})
    assert numbers(tmp_path) == [1]


def test_saving_a_number_again_replaces_it(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path, keep_last=1)
    save(keeper, 1, 1.0)
    save(keeper, 1, 2.0)
    assert numbers(tmp_path) == [1]
    assert read_checkpoint(keeper.path(1)).metadata[RESULTS] == {"evaluation": {"return": 2.0}}


@pytest.mark.parametrize("settings", [{"keep_last": 0}, {"keep_last": -1}, {"mode": "best"}])
def test_settings_out_of_range(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CheckpointKeeper(tmp_path, **settings)
