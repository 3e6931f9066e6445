"""Learners are killed at random: what was asked for is done exactly once, or raises and has changed nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.hosted import is_alive, wait_until
from support.learners import assert_same, make_columns
from support.traps import Trap, make_trapped, states, update_often
from unison import LearnerGroup
from unison.errors import LearnerGroupError

MOMENTS = {"update": ("before", "inside", "after"), "double": ("early", "late"), "often": ("between",), "copy": ()}
RANKS = (1, 2, 3, 4)
Case = tuple[int, int, list[str], int, str, set[int]]


def double(learner: Any) -> None:
    """A change that may not be made twice."""
    learner._spring("early")
    with torch.no_grad():
        for parameter in learner.module.parameters():
            parameter.mul_(2.0)
    learner._spring("late")


def hand_in(group: LearnerGroup, number: int) -> None:
    group.update_from_batch(make_columns(40, number), minibatch_size=8, num_iters=2, async_update=True)


def do(group: LearnerGroup, task: str, number: int) -> None:
    """One task; updates are handed in only."""
    if task == "update":
        hand_in(group, number)
    elif task == "double":
        group.foreach_learner(double)
    elif task == "often":
        group.foreach_learner(update_often, number=3)
    else:
        weights = group.get_weights()
        group.set_weights({m: {n: value + 0.01 for n, value in named.items()} for m, named in weights.items()})


class Undisturbed:
    """A group for each number of ranks that nothing happens to."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._groups = {n: stack.enter_context(make_trapped(Trap(folder), n)) for n in RANKS}
        self._beginnings = {n: group.get_state() for n, group in self._groups.items()}

    def path(self, ranks: int, tasks: list[str]) -> list[dict[str, Any]]:
        """The states to begin with and after each task."""
        group = self._groups[ranks]
        group.set_state(self._beginnings[ranks])
        found = [states(group)]
        for number, task in enumerate(tasks):
            do(group, task, number)
            found.append(states(group))
        return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    with ExitStack() as stack:
        yield Undisturbed(tmp_path_factory.mktemp("none"), stack)


def kill(group: LearnerGroup, ranks: set[int]) -> None:
    """Between calls, whatever the Learners are at."""
    pids: list[int] = [group._transport.pids[rank] for rank in ranks]  # pyright: ignore
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not any(map(is_alive, pids)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Ranks, restarts, tasks, the one that is hit, the moment of it, who is killed."""
    ranks = draw(st.sampled_from(RANKS))
    tasks = draw(st.lists(st.sampled_from(["update", "update", "update", *MOMENTS]), min_size=2, max_size=5))
    hit = draw(st.integers(0, len(tasks) - 1))
    moment = draw(st.sampled_from((*MOMENTS[tasks[hit]], "idle")))
    killed = draw(st.sets(st.integers(0, ranks - 1), min_size=1, max_size=ranks))
    return ranks, draw(st.sampled_from([0, 8])), tasks, hit, moment, killed


@given(cases())
@settings(max_examples=24, suppress_health_check=[HealthCheck.too_slow])
def test_random_losses(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    ranks, restarts, tasks, hit, moment, killed = case
    path = undisturbed.path(ranks, tasks)
    trap = Trap(tmp_path_factory.mktemp("trap"))
    with make_trapped(trap, ranks, max_learner_restarts=restarts) as group:
        done = changes = 0
        was_hit = False
        while done < len(tasks):
            try:
                for number in range(done, len(tasks)):
                    if number == hit and not was_hit:
                        was_hit = True
                        if moment == "idle":
                            kill(group, killed)
                        else:
                            trap.set(moment, "kill", *killed)
                    do(group, tasks[number], number)
                    changes += tasks[number] != "update"
                group.drain()
                done = len(tasks)
            except LearnerGroupError:
                assert restarts == 0
                stats = group.get_stats()
                assert stats["in_flight"] == 0
                assert stats["submitted"] == stats["trained"] + stats["failed"]
                done = int(stats["trained"]) + changes
                if killed == set(range(ranks)):
                    with pytest.raises(LearnerGroupError):
                        group.get_state()
                    return
                trap.lift()
                group.resize(ranks)
            assert_same(states(group), path[done])
        assert group.get_stats()["restarts"] <= restarts


def test_a_survivor_that_is_updates_ahead_goes_back_where_no_restart_is_left(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    trap = Trap(tmp_path)
    path = undisturbed.path(3, ["update"])
    with make_trapped(trap, 3, max_learner_restarts=0) as group:
        hand_in(group, 0)
        group.drain()
        trap.set("between", "kill", 0)
        with pytest.raises(LearnerGroupError, match="The state after 1 updates can be saved"):
            group.foreach_learner(update_often, number=3)
        assert group.get_state()["learner"]["counters"]["num_updates"] == 1
        group.resize(3)
        assert_same(states(group), path[1])


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_change_that_fails_on_one_rank_is_made_on_none(undisturbed: Undisturbed, tmp_path: Path, ranks: int) -> None:
    trap = Trap(tmp_path)
    path = undisturbed.path(ranks, ["update", "double"])
    with make_trapped(trap, ranks) as group:
        hand_in(group, 0)
        for moment in ("early", "late"):
            trap.set(moment, "memory", ranks - 1)
            with pytest.raises(MemoryError):
                group.foreach_learner(double)
            assert_same(states(group), path[1])
        group.foreach_learner(double)
        assert_same(states(group), path[2])
