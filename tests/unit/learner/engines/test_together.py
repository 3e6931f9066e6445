"""Jobs in one call are trusted once each of them left what it leaves alone, and for calls like that one only."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from unison.learner.engines.engine import no_copies
from unison.learner.engines.feed import Feed
from unison.learner.engines.program import Job, Outputs, Program
from unison.learner.engines.together import Together


class Counting(Program):
    """Adds the number of steps to its only piece of state."""

    make = 1
    kept = (True,)
    tolerance = 0.05
    runs = 0

    def run(self, state: Sequence[torch.Tensor], captured: Any, feed: Feed) -> Outputs:
        self.runs += 1
        state[0] += feed.count
        return Outputs(np.zeros((feed.count, 0), np.float32), [])


def jobs(*counts: int) -> list[Job]:
    return [Job(Counting(), [torch.zeros(3)], [], Feed(count, [], [], [], [])) for count in counts]


def states(given: Sequence[Job]) -> list[float]:
    return [float(job.state[0][0]) for job in given]


def together(wrong: Any) -> tuple[Together, list[int]]:
    """Runs jobs in one call, which goes wrong for the jobs, by place and feed, that `wrong` says; the calls' sizes."""
    calls: list[int] = []

    def run(given: Sequence[Job], places: int, before_change: Any) -> list[Outputs]:
        calls.append(len(given))
        for place, job in enumerate(given):
            job.state[0] += 7 if wrong(place, job.feed) else job.feed.count
        return [Outputs(np.zeros((job.feed.count, 0), np.float32), []) for job in given]

    return Together(lambda feed: feed.count, run, nullcontext), calls


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_job_that_goes_wrong_in_any_place_is_noticed(place: int, caplog: pytest.LogCaptureFixture) -> None:
    runner, calls = together(lambda number, feed: number == place)
    given = jobs(2, 2, 2)
    runner.execute(given, no_copies)
    assert states(given) == [2.0, 2.0, 2.0]
    assert "state 0 of shape [3] is not what the module gets alone" in caplog.text
    runner.execute(given, no_copies)
    assert states(given) == [4.0, 4.0, 4.0]
    assert calls == [3]


def test_jobs_of_another_likeness_are_tried_anew(caplog: pytest.LogCaptureFixture) -> None:
    runner, calls = together(lambda number, feed: feed.count == 5)
    short, long = jobs(2, 2), jobs(5, 5)
    for _ in range(2):
        runner.execute([*short, *long], no_copies)
    assert states(short) == [4.0, 4.0]
    assert states(long) == [10.0, 10.0]
    assert calls == [2, 2, 2]  # the short ones twice, the long ones once
    assert [job.program.runs for job in short] == [1, 1]  # once alone, to compare with
    assert caplog.text.count("not at once") == 1
