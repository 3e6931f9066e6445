"""Progress where no terminal is: a line now and then."""

import sys
import time
from typing import final

from unison.algorithms.run_folder import Progress
from unison.cli.display import Display
from unison.cli.words import duration, number

_FIRST_MINUTE_S, _LATER_S = 10.0, 60.0


@final
class PlainDisplay(Display):
    """One line every 10 seconds of the first minute, and one a minute after it."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def show(self, progress: Progress) -> None:
        """See Display.show."""
        now = time.monotonic()
        if now - self._last < (_FIRST_MINUTE_S if now - self._start < 60 else _LATER_S):
            return
        self._last = now
        print(self._line(progress), flush=True)

    def announce_stop(self) -> None:
        """See Display.announce_stop."""
        print("Stopping after this iteration.", file=sys.stderr, flush=True)

    def close(self) -> None:
        """See Display.close."""

    def _line(self, progress: Progress) -> str:
        done = f"{progress.env_steps:,} steps"
        if progress.stop_steps is not None:
            done += f" of {progress.stop_steps:,}"
        said = [
            done,
            f"return {number(progress.results['env_runners'].get('episode_return_mean'))}",
            f"evaluation {number(progress.evaluation_return)}",
            f"{progress.steps_per_second:,.0f} steps/s",
        ]
        if progress.seconds_left is not None:
            said.append(f"{duration(progress.seconds_left)} left")
        return "  ".join(said)
