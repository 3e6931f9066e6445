"""What a run tells about itself while it trains."""

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

_WINDOW_S = 10.0


@dataclass(frozen=True)
class Progress:
    """Where a run stands after an iteration.

    Attributes:
        iteration: training iterations so far.
        env_steps: environment steps so far.
        stop_steps: where the run ends at the latest; None: nowhere.
        seconds: of training so far, those before a resumption included.
        steps_per_second: over the last 10 seconds, evaluation and saving included.
        evaluation_return: the mean return of the last evaluation; None before the first.
        evaluation_steps: the environment steps at which it was.
        stop_return: the return at which the run ends; None: none.
        results: those of the iteration, as `Algorithm.train` returned them.
        checkpoint: the checkpoint that this iteration ended with, if any; it is written while training goes on.
    """

    iteration: int
    env_steps: int
    stop_steps: int | None
    seconds: float
    steps_per_second: float
    evaluation_return: float | None
    evaluation_steps: int | None
    stop_return: float | None
    results: dict[str, Any]
    checkpoint: Path | None

    @property
    def seconds_left(self) -> float | None:
        """Until `stop_steps`, at the present speed; None where there is no such end."""
        if self.stop_steps is None or not self.steps_per_second:
            return None
        return max(0, self.stop_steps - self.env_steps) / self.steps_per_second


@final
class Speedometer:
    """Environment steps per second over the last seconds."""

    def __init__(self, env_steps: int) -> None:
        self._marks = deque([(time.monotonic(), env_steps)])

    def read(self, env_steps: int) -> float:
        """Take note of the steps done by now, and return the speed."""
        now = time.monotonic()
        while len(self._marks) > 1 and self._marks[1][0] < now - _WINDOW_S:
            self._marks.popleft()
        then, steps = self._marks[0]
        self._marks.append((now, env_steps))
        return (env_steps - steps) / (now - then) if now > then else 0.0
