import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unison.algorithms.run_folder.loggers import CsvLogger, JsonlLogger, TensorBoardLogger, check_loggers, open_loggers
from unison.algorithms.run_folder.rows import read_csv
from unison.errors import MissingExtraError


def row(iteration: int, **more: Any) -> dict[str, Any]:
    return {
        "training_iteration": iteration,
        "num_env_steps_sampled_lifetime": 10 * iteration,
        "x": 0.5 * iteration,
        **more,
    }


def log_all(logger: Any, rows: list[dict[str, Any]]) -> None:
    for each in rows:
        logger.log(each)
    logger.close()


def test_each_line_is_a_json_object_and_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    logger = JsonlLogger(path, 0)
    logger.log(row(1, engine="eager", none=None))
    assert json.loads(path.read_text()) == row(1, engine="eager", none=None)
    logger.close()
    logger.close()


@pytest.mark.parametrize("tail", ["", '{"training_iter'])
def test_json_lines_go_on_after_the_iteration_that_was_saved(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "metrics.jsonl"
    log_all(JsonlLogger(path, 0), [row(1), row(2), row(3)])
    with path.open("a") as file:
        file.write(tail)
    log_all(JsonlLogger(path, 2), [row(3, again=1)])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [row(1), row(2), row(3, again=1)]


def test_a_late_metric_gets_its_column(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    rows = [row(1), row(2, evaluation=9.0), row(3), row(4, evaluation=None, other="b,c")]
    log_all(CsvLogger(path, 0), rows)
    header = path.read_text().splitlines()[0].split(",")
    assert header == ["training_iteration", "num_env_steps_sampled_lifetime", "x", "evaluation", "other"]
    assert read_csv(path) == [row(1), row(2, evaluation=9.0), row(3), row(4, other="b,c")]


def test_the_table_goes_on_after_the_iteration_that_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log_all(CsvLogger(path, 0), [row(1), row(2, late=1.0), row(3)])
    log_all(CsvLogger(path, 1), [row(2), row(3, late=2.0)])
    assert read_csv(path) == [row(1), row(2), row(3, late=2.0)]


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_the_events_at_their_steps(tmp_path: Path) -> None:
    log_all(TensorBoardLogger(tmp_path, 0), [row(1, engine="eager"), row(2, evaluation=7.0)])
    events = read_events(tmp_path)
    assert events["x"] == [(10, 0.5), (20, 1.0)]
    assert events["evaluation"] == [(20, 7.0)]
    assert "engine" not in events


def test_tensorboard_forgets_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    log_all(TensorBoardLogger(folder, 0), [row(1), row(2), row(3)])
    log_all(TensorBoardLogger(folder, 20), [row(3, x=9.0), row(4, x=10.0)])
    assert read_events(folder)["x"] == [(10, 0.5), (20, 1.0), (30, 9.0), (40, 10.0)]


def test_the_setting_names_the_files(tmp_path: Path) -> None:
    for logger in open_loggers(tmp_path, ("csv", "jsonl", "tensorboard")):
        log_all(logger, [row(1)])
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "metrics.jsonl", "tensorboard"}


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    check_loggers(("jsonl", "csv"))
    with pytest.raises(MissingExtraError, match=r"pip install 'unison\[tensorboard\]'"):
        check_loggers(("tensorboard",))
