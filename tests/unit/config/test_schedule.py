import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unison.config import Schedule

steps = st.lists(st.integers(0, 10**7), min_size=1, max_size=6, unique=True).map(sorted)
values = st.floats(-1e3, 1e3, width=32)


def test_a_number_is_a_constant_schedule() -> None:
    schedule = Schedule(3e-4)
    assert schedule.is_constant
    assert [schedule.value(step) for step in (0, 1, 10**9)] == [3e-4] * 3


def test_between_points_the_value_is_linear_and_outside_constant() -> None:
    schedule = Schedule([[100, 1.0], [200, 0.0], [400, 0.5]])
    assert not schedule.is_constant
    by_hand = {0: 1.0, 100: 1.0, 125: 0.75, 200: 0.0, 300: 0.25, 400: 0.5, 10**6: 0.5}
    assert {step: schedule.value(step) for step in by_hand} == by_hand


@given(steps, st.data())
def test_values_are_those_of_linear_interpolation(points: list[int], data: st.DataObject) -> None:
    targets = data.draw(st.lists(values, min_size=len(points), max_size=len(points)))
    schedule = Schedule(list(zip(points, targets, strict=True)))
    for step in data.draw(st.lists(st.integers(0, 2 * 10**7), max_size=8)):
        assert schedule.value(step) == pytest.approx(np.interp(step, points, targets), rel=1e-9, abs=1e-9)


def test_points_of_one_value_are_constant() -> None:
    assert Schedule([[0, 0.5], [10, 0.5]]).is_constant


@pytest.mark.parametrize("points", [[], [[0, 1.0], [0, 2.0]], [[5, 1.0], [3, 2.0]]])
def test_points_must_grow(points: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="schedule"):
        Schedule(points)


def test_schedules_are_values() -> None:
    assert Schedule([[0, 1.0], [5, 2.0]]) == Schedule([(0, 1.0), (5, 2.0)])
    assert len({Schedule(1.0), Schedule(1.0)}) == 1
