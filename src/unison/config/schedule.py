"""Settings that change over training: piecewise linear in the number of environment steps."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, TypeAlias, TypeVar

from pydantic import AfterValidator, NonNegativeInt, Strict

from unison.config.describe import Shown

Points: TypeAlias = tuple[tuple[int, float], ...]


@dataclass(frozen=True, init=False)
class Schedule:
    """A value over time: linear between points `(step, value)`, constant before the first and after the last.

    Args:
        value: a number (a constant schedule) or points `[[step, value], ...]` with growing steps.
    """

    points: Points
    _steps: tuple[int, ...] = field(repr=False, compare=False)

    def __init__(self, value: float | Sequence[Sequence[float]]) -> None:
        """Make a schedule from a number or from points; points that do not grow raise ValueError."""
        pairs = [(0, value)] if isinstance(value, int | float) else value
        points = growing(tuple((int(step), float(target)) for step, target in pairs))
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "_steps", tuple(step for step, _ in points))

    @property
    def is_constant(self) -> bool:
        """Whether the value is the same at every step."""
        return len({value for _, value in self.points}) == 1

    def value(self, step: int) -> float:
        """The value at `step`."""
        right = bisect_right(self._steps, step)
        if right == 0:
            return self.points[0][1]
        if right == len(self.points):
            return self.points[-1][1]
        (step_0, value_0), (step_1, value_1) = self.points[right - 1 : right + 1]
        return value_0 + (value_1 - value_0) * (step - step_0) / (step_1 - step_0)


def growing(points: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    """The points unchanged; raises ValueError if there is none or if their steps do not grow."""
    if not points:
        raise ValueError("a schedule needs at least one point [step, value]")
    for (step, _), (next_step, _) in pairwise(points):
        if next_step <= step:
            raise ValueError(f"the steps of a schedule must grow, but {next_step} follows {step}")
    return points


NumberT = TypeVar("NumberT")
SCHEDULABLE = "schedulable"
"""Marks, in a setting's metadata, one that may be a schedule."""

_Step = Annotated[NonNegativeInt, Strict(False)]
_Point = Annotated[tuple[_Step, NumberT], Strict(False)]
_Points = Annotated[
    tuple[_Point[NumberT], ...],
    Strict(False),
    AfterValidator(growing),
    Shown("a schedule [[step, value], ...]"),
]
Scheduled = Annotated[NumberT | _Points[NumberT], SCHEDULABLE]
"""The type of a setting that may be a schedule: `Scheduled[NonNegativeFloat]`."""
