"""Jobs of one make in one call, once that call has been seen to do what each of them does alone."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unison.learner.engines.checking import difference
from unison.learner.engines.engine import BeforeChange, no_copies
from unison.learner.engines.feed import Feed
from unison.learner.engines.program import Job, Outputs

logger = logging.getLogger("unison")


class Together:
    """Runs jobs that don't depend on each other, those that are alike by one call.

    Args:
        likeness: what feeds of jobs must have in common for that.
        run: takes the steps of jobs of one make. The second argument says for how many jobs the program is: one of
            few sizes, so that batches with ever other modules share programs. For more than one, it computes everything
            before it changes any state. The third is called before that.
        compiling: counts the time within it as compiling.
    """

    def __init__(
        self,
        likeness: Callable[[Feed], Any],
        run: Callable[[Sequence[Job], int, BeforeChange], list[Outputs]],
        compiling: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._likeness = likeness
        self._run = run
        self._compiling = compiling
        self._trusted: dict[Any, bool] = {}
        """By make, likeness and places: a call of another likeness may be another program."""

    def execute(self, jobs: Sequence[Job], before_change: BeforeChange) -> list[Outputs]:
        """Run all jobs; what each leaves, in their order. `before_change` as in Engine.run."""
        groups: dict[Any, list[int]] = {}
        for number, job in enumerate(jobs):
            groups.setdefault((job.program.make, self._likeness(job.feed)), []).append(number)
        outputs: dict[int, Outputs] = {}
        for alike, numbers in groups.items():
            left = self._run_alike([jobs[n] for n in numbers], alike, before_change)
            outputs |= dict(zip(numbers, left, strict=True))
        return [outputs[number] for number in range(len(jobs))]

    def _run_alike(self, jobs: Sequence[Job], alike: Any, before_change: BeforeChange) -> list[Outputs]:
        places = _places(len(jobs))
        trusted = places == 1 or self._trusted.get((alike, places))
        if trusted:
            return self._run(jobs, places, before_change)
        before_change({})
        if trusted is None:
            outputs, self._trusted[alike, places] = self._try(jobs, places)
            return outputs
        return [job.run() for job in jobs]

    def _try(self, jobs: Sequence[Job], places: int) -> tuple[list[Outputs], bool]:
        """Run jobs together for the first time; what each leaves, and whether it leaves just that alone."""
        before = [[tensor.clone() for tensor in job.state] for job in jobs]
        alone = [replace(job, state=[tensor.clone() for tensor in job.state]) for job in jobs]
        wanted = [job.run() for job in alone]
        try:
            with self._compiling():
                outputs = self._run(jobs, places, no_copies)
            reason = next(filter(None, map(_disagreement, jobs, before, alone)), None)
            if reason is None:
                return outputs, True
        except Exception as error:  # a compiler may fail in ways that are its own
            reason = f"compiling failed with {type(error).__name__}: {str(error).strip()[:200]}"
        logger.warning("Modules of one shape step one after another, not at once: %s.", reason)
        for job, right in zip(jobs, alone, strict=True):
            for tensor, value in zip(job.state, right.state, strict=True):
                tensor.copy_(value)
        return wanted, False


def stacked(tensors: Sequence[Tensor], places: int, axis: int = 0) -> Tensor:
    """The tensors of jobs along a new axis, the first again in places left over; for one place, the first itself."""
    if places == 1:
        return tensors[0]
    return torch.stack([*tensors, *[tensors[0]] * (places - len(tensors))], axis)


def _disagreement(job: Job, before: Sequence[Tensor], alone: Job) -> str | None:
    for number, (new, old, wanted) in enumerate(zip(job.state, before, alone.state, strict=True)):
        if job.program.kept[number] and difference(new, old, wanted) > job.program.tolerance:
            return f"state {number} of shape {list(wanted.shape)} is not what the module gets alone"
    return None


def _places(count: int) -> int:
    grain = 1 << max(0, count.bit_length() - 2)
    return -(-count // grain) * grain if count > 4 else count
