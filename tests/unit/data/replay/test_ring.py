"""What a ring takes, and what it refuses without having written any of it."""

from typing import Any

import numpy as np
import pytest
import torch

from unison.data.replay.ring import Ring
from unison.errors import BatchError


def rows_of(count: int, **changed: Any) -> dict[str, Any]:
    nested = {"x": np.ones((count, 1), np.float32), "y": np.full((count, 1), 2.0, np.float32)}
    pair = (np.ones(count, np.uint8), np.ones((count, 3), np.bool_))
    return {"a": np.ones(count), "n": np.ones(count, np.int64), "tree": nested, "pair": pair} | changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": np.array([0.7, 1.5])}, r"column 'n' have the type float64, but the replay buffer holds int64"),
        ({"pair": (np.array([300, 1]), np.ones((2, 3), np.bool_))}, "'pair/0' have the type int64.* holds uint8"),
        ({"pair": (np.ones(2, np.uint8), np.ones((2, 3), np.uint8))}, "'pair/1' have the type uint8.* holds bool"),
        ({"a": np.array(["b", "c"], object)}, "'a' have the type object.* holds float32"),
        ({"pair": (np.ones(2, np.uint8),)}, r"'pair' have the parts \[0\], but the replay buffer holds \[0, 1\]"),
        ({"tree": {"x": np.ones((2, 1))}}, r"'tree' have the parts \['x'\].* holds \['x', 'y'\]"),
        ({"tree": {"x": np.ones((2, 1)), "z": np.ones((2, 1))}}, r"'tree' have the parts \['x', 'z'\]"),
        ({"tree": np.ones((2, 1))}, r"'tree' have the parts \[\].* holds \['x', 'y'\]"),
        ({"n": (np.ones(2, np.int64),)}, r"'n' have the parts \[0\].* holds \[\]"),
        ({"tree": {"x": np.ones((2, 1)), "y": np.ones((2, 4))}}, r"'tree/y' have the shape \[4\].* holds \[1\]"),
        ({"n": np.ones(1, np.int64)}, "'n' has 1 rows, but 2 are to be written"),
        ({"more": np.ones(2)}, r"holds the columns \['a', 'n', 'pair', 'tree'\]"),
    ],
)
def test_rows_that_do_not_fit_leave_the_ring_as_it_was(changed: dict[str, Any], message: str) -> None:
    ring = Ring(4)
    ring.write(ring.match(rows_of(4), 4), 4)
    rows = rows_of(2, a=np.zeros(2)) | changed
    with pytest.raises(BatchError, match=message):
        ring.match(rows, 2)
    assert ring.columns["a"].sum() == ring.columns["n"].sum() == ring.written == 4


def test_keys_in_another_order_are_the_same_rows() -> None:
    ring = Ring(4)
    ring.write(ring.match(rows_of(2), 2), 2)
    rows = rows_of(2)
    ring.write(ring.match(rows | {"tree": dict(reversed(rows["tree"].items()))}, 2), 2)
    assert ring.columns["tree"]["x"].tolist() == [[1]] * 4
    assert ring.columns["tree"]["y"].tolist() == [[2]] * 4


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (np.float32, np.float64),
        (np.float64, np.float32),
        (np.float32, np.int64),
        (np.int64, np.uint8),
        (np.int32, np.bool_),
    ],
)
def test_numbers_that_a_column_can_hold_are_taken(first: Any, then: Any) -> None:
    ring = Ring(4)
    ring.write(ring.match({"a": np.ones(2, first)}, 2), 2)
    ring.write(ring.match({"a": np.array([0, 1], then)}, 2), 2)
    assert ring.columns["a"].tolist() == [1, 1, 0, 1]


def test_tensors_with_gradients_are_taken() -> None:
    ring = Ring(4)
    ring.write(ring.match({"a": np.zeros(2)}, 2), 2)
    ring.write(ring.match({"a": torch.ones(2, requires_grad=True)}, 2), 2)
    assert ring.columns["a"].tolist() == [0, 0, 1, 1]
