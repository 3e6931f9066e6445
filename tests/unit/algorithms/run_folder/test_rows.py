import math
from pathlib import Path

import numpy as np
import pytest

from unison.algorithms.run_folder.rows import flatten, get_number, plain, read_csv, read_jsonl, read_rows, up_to


def test_results_are_flat_by_path() -> None:
    results = {"a": 1, "b": {"c": 2.5, "d": {"e": "eager"}}, "f": None, "g": True}
    assert flatten(results) == {"a": 1, "b/c": 2.5, "b/d/e": "eager", "f": None, "g": True}


def test_numbers_of_numpy_become_pythons_own() -> None:
    row = flatten({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)})
    assert [type(value) for value in row.values()] == [float, int, bool]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_what_is_not_finite_becomes_none(value: float) -> None:
    assert plain({"a": {"b": value}}) == {"a": {"b": None}}


def test_what_is_no_scalar_is_left_out() -> None:
    assert flatten({"a": [1, 2], "b": np.zeros(3), "c": object(), "d": 1}) == {"d": 1}


@pytest.mark.parametrize("value", ["x", None, True, math.nan])
def test_a_number_is_asked_for_but_there_is_none(value: object) -> None:
    assert get_number({"a": value}, "a") is None
    assert get_number({}, "a") is None


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"training_iteration": 1}\n{"training_iteration": 2}\n{"training_iter')
    assert [row["training_iteration"] for row in read_jsonl(path)] == [1, 2]


def test_csv_gives_numbers_back_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("training_iteration,a,b,c,d\n1,0.5,eager,True,\n2,1e-07,7,False,3\nhalf")
    assert read_csv(path) == [
        {"training_iteration": 1, "a": 0.5, "b": "eager", "c": True},
        {"training_iteration": 2, "a": 1e-7, "b": 7, "c": False, "d": 3},
    ]


def test_a_folder_without_json_lines_is_read_from_its_csv(tmp_path: Path) -> None:
    assert read_rows(tmp_path) == []
    (tmp_path / "metrics.csv").write_text("training_iteration,a\n1,2\n")
    assert read_rows(tmp_path) == [{"training_iteration": 1, "a": 2}]
    (tmp_path / "metrics.jsonl").write_text('{"training_iteration": 5}\n')
    assert read_rows(tmp_path) == [{"training_iteration": 5}]


def test_rows_up_to_an_iteration() -> None:
    rows = [{"training_iteration": number} for number in (1, 2, 3)]
    assert up_to(rows, 2) == rows[:2]
