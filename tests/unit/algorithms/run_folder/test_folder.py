import os
from pathlib import Path

import pytest

from support.runs import tiny_config
from unison.algorithms.run_folder import Outcome, RunFolder, StopConditions, StopReason, find_checkpoint
from unison.checkpoint import write_checkpoint
from unison.config import AlgorithmConfig
from unison.errors import CheckpointError, ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "deep" / "run")
    made.create(tiny_config(lr=[[0, 1e-3], [100, 1e-5]]), StopConditions(stop_return=5.0))
    return made


def test_the_config_comes_back_whole(folder: RunFolder) -> None:
    config = folder.read_config()
    assert config.to_dict() == tiny_config(lr=[[0, 1e-3], [100, 1e-5]]).to_dict()
    assert AlgorithmConfig.from_file(folder.path / "config.yaml").algorithm_name == "ppo"


def test_the_goal_and_the_outcome_come_back(folder: RunFolder) -> None:
    assert folder.read_stop() == StopConditions(stop_return=5.0)
    assert folder.read_outcome() is None
    outcome = Outcome(StopReason.STEPS_DONE, 3, 192, 1.5)
    folder.write_run(StopConditions(stop_steps=100), outcome)
    assert folder.read_stop() == StopConditions(stop_steps=100)
    assert folder.read_outcome() == outcome.to_dict()


def test_a_folder_with_a_run_is_not_free(folder: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"already holds a run.*--resume .*--out"):
        folder.create(tiny_config(), StopConditions())


def test_other_peoples_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="other files"):
        RunFolder(tmp_path).check_is_free()
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex").check_is_free()


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    RunFolder(tmp_path).create(tiny_config(), StopConditions())
    assert RunFolder(tmp_path).holds_a_run


@pytest.mark.parametrize(("name", "words"), [("nothing", "There is no folder"), ("", "holds no run")])
def test_a_run_that_is_not_there(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RunFolder(tmp_path / name).read_config()


def test_a_run_that_cannot_be_written_to_is_named(folder: RunFolder) -> None:
    (folder.path / f".run.json.{os.getpid()}").mkdir()
    with pytest.raises(ConfigError, match=rf"Cannot write to {folder.path}: Is a directory\. Make it writable"):
        folder.write_run(StopConditions(), None)


def test_what_is_missing_of_a_run_is_named(folder: RunFolder) -> None:
    folder.config_file.unlink()
    with pytest.raises(ConfigError, match=r"holds no run: it has no config\.yaml, which"):
        folder.read_config()


def test_a_run_does_not_go_on_from_a_single_checkpoint(folder: RunFolder) -> None:
    checkpoint = folder.checkpoint_folder / "checkpoint_000001"
    write_checkpoint(checkpoint, {"a": {}}, {})
    with pytest.raises(ConfigError, match=r"is a checkpoint.*give the run's folder"):
        RunFolder(checkpoint).read_config()


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"stop": 3}', '{"stop": {}, "outcome": "solved"}', "{}"])
def test_a_damaged_run_file_is_named(folder: RunFolder, content: str) -> None:
    folder.run_file.write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json is damaged"):
        folder.read_stop()


def write(path: Path) -> Path:
    write_checkpoint(path, {"part": {"x": 1}}, {})
    return path


def test_the_last_whole_checkpoint_is_found(folder: RunFolder) -> None:
    assert folder.latest_checkpoint() is None
    with pytest.raises(CheckpointError, match="no whole checkpoint yet"):
        find_checkpoint(folder.path)
    first = write(folder.checkpoint_folder / "checkpoint_000001")
    second = write(folder.checkpoint_folder / "checkpoint_000002")
    assert find_checkpoint(folder.path) == second
    assert find_checkpoint(first) == first
    (second / "part.safetensors").unlink()
    assert find_checkpoint(folder.path) == first


def test_checkpoints_of_which_none_is_whole_are_an_error_and_no_fresh_start(folder: RunFolder) -> None:
    (write(folder.checkpoint_folder / "checkpoint_000001") / "part.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole"):
        folder.latest_checkpoint()


def test_a_path_that_is_neither_run_nor_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a run folder nor a checkpoint"):
        find_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="There is nothing at"):
        find_checkpoint(tmp_path / "x")
