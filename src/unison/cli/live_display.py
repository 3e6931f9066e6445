"""Progress on a terminal: a few lines that change in place."""

import time
from typing import final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from unison.algorithms.run_folder import Progress
from unison.cli.display import Display
from unison.cli.words import duration, losses, number

_SECONDS_BETWEEN_FRAMES = 0.2
_MOST_MODULES = 4


@final
class LiveDisplay(Display):
    """Steps, returns, speed, time and losses, redrawn five times a second at most.

    Args:
        console: the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(Text("Starting ...", style="dim"), console=console, auto_refresh=False)
        self._last_frame = 0.0
        self._latest: Progress | None = None
        self._is_stopping = False
        self._live.start(refresh=True)

    def show(self, progress: Progress) -> None:
        """See Display.show."""
        self._latest = progress
        now = time.monotonic()
        if now - self._last_frame >= _SECONDS_BETWEEN_FRAMES:
            self._last_frame = now
            self._draw()

    def announce_stop(self) -> None:
        """See Display.announce_stop."""
        self._is_stopping = True
        self._draw()

    def close(self) -> None:
        """See Display.close."""
        self._is_stopping = False
        self._draw()
        self._live.stop()

    def _draw(self) -> None:
        lines: list[Text | Table] = [] if self._latest is None else [_table(self._latest)]
        if self._is_stopping:
            lines.append(Text("Stopping after this iteration; Ctrl-C again stops at once, unsaved.", style="yellow"))
        self._live.update(Group(*lines), refresh=True)


def _table(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(no_wrap=True)
    steps = f"[bold]{progress.env_steps:,}[/]"
    if progress.stop_steps is not None:
        steps += f" of {progress.stop_steps:,} [dim]({progress.env_steps / progress.stop_steps:.0%})[/]"
        table.add_row("", ProgressBar(total=progress.stop_steps, completed=progress.env_steps, width=48))
    table.add_row("steps", steps)
    returns = progress.results["env_runners"].get("episode_return_mean")
    table.add_row("return", f"[bold]{number(returns)}[/] [dim]mean of the last training episodes[/]")
    if progress.evaluation_return is not None:
        goal = f", goal {progress.stop_return:g}" if progress.stop_return is not None else ""
        table.add_row(
            "evaluation",
            f"[bold]{number(progress.evaluation_return)}[/] [dim]at {progress.evaluation_steps:,} steps{goal}[/]",
        )
    left = f", about {duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
    table.add_row("speed", f"{progress.steps_per_second:,.0f} steps/s")
    table.add_row("time", f"{duration(progress.seconds)}{left}")
    shown = losses(progress.results["learners"])
    for module_id, line in list(shown.items())[:_MOST_MODULES]:
        table.add_row("losses" if len(shown) == 1 else escape(module_id), line)
    if len(shown) > _MOST_MODULES:
        table.add_row("", f"[dim]and {len(shown) - _MOST_MODULES} more modules[/]")
    return table
