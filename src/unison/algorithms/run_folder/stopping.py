"""When a run is over, and why it was."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from unison.algorithms.run_folder.rows import CONFIRMATION_RETURN, STEPS, get_number
from unison.errors import ConfigError


class StopReason(StrEnum):
    """Why a run ended."""

    RETURN_REACHED = "return_reached"
    STEPS_DONE = "steps_done"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class StopConditions:
    """What ends a run; without any it trains until it is interrupted.

    Attributes:
        stop_return: the mean return that evaluation must reach. An evaluation that does is repeated
            with new episodes, and the run ends only if the second one reaches it too.
        stop_steps: environment steps, over the whole life of the run.

    Raises:
        ConfigError: stop_return is not finite, or stop_steps below 1.
    """

    stop_return: float | None = None
    stop_steps: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.stop_return is not None and not math.isfinite(self.stop_return):
            raise ConfigError(f"stop_return={self.stop_return} is not allowed; it takes a finite number.")
        if self.stop_steps is not None and self.stop_steps < 1:
            raise ConfigError(f"stop_steps={self.stop_steps} is not allowed; it takes an integer >= 1.")

    def has_done_its_steps(self, env_steps: float) -> bool:
        """Whether so many environment steps are enough."""
        return self.stop_steps is not None and env_steps >= self.stop_steps

    def reason(self, row: Mapping[str, Any]) -> StopReason | None:
        """Why a run with these results ends; None if it goes on."""
        confirmed = get_number(row, CONFIRMATION_RETURN)
        if self.stop_return is not None and confirmed is not None and confirmed >= self.stop_return:
            return StopReason.RETURN_REACHED
        return StopReason.STEPS_DONE if self.has_done_its_steps(get_number(row, STEPS) or 0) else None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "StopConditions":
        """What `to_dict` was called on."""
        return cls(stop_return=data.get("stop_return"), stop_steps=data.get("stop_steps"))

    def changed(self, stop_return: float | None, stop_steps: int | None) -> "StopConditions":
        """These conditions, with those that are given put in place."""
        return StopConditions(
            self.stop_return if stop_return is None else stop_return,
            self.stop_steps if stop_steps is None else stop_steps,
        )


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        reason: what ended it.
        iteration: training iterations so far.
        env_steps: environment steps so far.
        seconds: of training, earlier sessions included.
        evaluation_return: the mean return of the last evaluation; None if there was none.
        evaluation_episodes: over how many episodes; those of the confirmation where there was one.
        stop_return: the goal.
    """

    reason: StopReason
    iteration: int
    env_steps: int
    seconds: float
    evaluation_return: float | None = None
    evaluation_episodes: int | None = None
    stop_return: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "reason": str(self.reason)}

    def sentence(self) -> str:
        """The outcome in words."""
        steps = f"{self.env_steps:,} steps"
        if self.evaluation_return is None:
            evaluated = ""
        else:
            evaluated = f"evaluation return {self.evaluation_return:.1f} over {self.evaluation_episodes} episodes"
        if self.reason is StopReason.RETURN_REACHED:
            return f"Solved after {steps}: {evaluated} (goal {self.stop_return:g})."
        if self.reason is StopReason.INTERRUPTED:
            return f"Interrupted after {steps}."
        if self.stop_return is not None:
            return f"Not solved within {steps}: {evaluated} (goal {self.stop_return:g})."
        return f"Done after {steps}{': ' + evaluated if evaluated else ''}."
