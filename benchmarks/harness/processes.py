"""Whole processes, timed from start to end, in turn."""

import json
import resource
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.machine import one_thread_environment, pin


@dataclass
class Runs:
    """What one command took: seconds and processor seconds of each run, and the JSON objects that it printed last."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the seconds."""
        return statistics.median(self.seconds)

    def numbers(self, name: str) -> list[float]:
        """A number in each of its answers."""
        return [float(answer[name]) for answer in self.answers]

    def median_of(self, name: str) -> float:
        """The median of a number in its answers."""
        return statistics.median(self.numbers(name))


def run_in_turn(
    commands: Mapping[str, Sequence[str]], cores: Sequence[int], repeats: int, *, warm_up: bool = False
) -> tuple[dict[str, Runs], dict[str, str]]:
    """Run each command `repeats` times, in turn; returns their runs, and those that failed with the reason.

    Args:
        commands: by the name that reports show.
        cores: where each runs.
        repeats: how often.
        warm_up: whether a first round, which fills the caches of files and compiled programs, does not count.
    """
    runs = {name: Runs() for name in commands}
    failed: dict[str, str] = {}
    for turn in range(repeats + warm_up):
        order = list(commands)
        shift = turn % len(order)
        for name in [*order[shift:], *order[:shift]]:
            if name in failed:
                continue
            start, cpu = time.perf_counter(), _cpu_seconds_of_children()
            done = _run(commands[name], cores)
            seconds, cpu = time.perf_counter() - start, _cpu_seconds_of_children() - cpu
            if done.returncode:
                failed[name] = ["it said nothing", *(done.stderr or done.stdout).strip().splitlines()][-1]
                del runs[name]
            elif turn or not warm_up:
                runs[name].seconds.append(seconds)
                runs[name].cpu_seconds.append(cpu)
                runs[name].answers.append(_last_object(done.stdout))
        print(f"round {turn + 1} of {repeats + warm_up}", flush=True)
    return runs, failed


def _run(command: Sequence[str], cores: Sequence[int]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(command),
        env=one_thread_environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(pin, list(cores)),
    )


def _cpu_seconds_of_children() -> float:
    """Of those that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _last_object(text: str) -> dict[str, Any]:
    for line in reversed(text.strip().splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    return {}
