"""A thousand updates handed to Learners that are slower than whoever hands them in: none is lost or half done."""

import os
import signal
import time
from typing import Any

import pytest

from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config, weights
from unison import ALL_MODULES, LearnerGroup
from unison.algorithms import PPOLearner

UPDATES = 1000


class Slow(PPOLearner):
    def before_gradient_based_update(self, *, timesteps: Any) -> None:
        time.sleep(0.001)
        super().before_gradient_based_update(timesteps=timesteps)


def make_group(num_learners: int, policy: str) -> LearnerGroup:
    config = make_config(learner_class=Slow).resources(num_learners=num_learners, backend="processes")
    config.fault_tolerance(queue_policy=policy)
    return config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)})


def check(group: LearnerGroup, submitted: int) -> None:
    stats = group.get_stats()
    assert stats["submitted"] == submitted
    assert stats["submitted"] == stats["trained"] + stats["dropped"] + stats["failed"] + stats["in_flight"]
    assert stats["in_flight"] <= group.config.max_queued_updates


def pid(learner: Any) -> int:
    return os.getpid()


def end_of(learner: Any) -> tuple[int, dict[str, Any]]:
    return learner.counters["num_updates"], weights(learner)


@pytest.mark.parametrize("policy", ["block", "drop"])
@pytest.mark.parametrize("num_learners", [0, 1, 2])
def test_a_thousand_updates(num_learners: int, policy: str) -> None:
    batches = [make_columns(4, seed) for seed in range(8)]
    with make_group(num_learners, policy) as group:
        pids = group.foreach_learner(pid)
        results: list[Any] = []
        for number in range(UPDATES):
            if number == UPDATES // 2 and num_learners == 2:
                os.kill(pids[1], signal.SIGKILL)
            results += group.update_from_batch(batches[number % 8], async_update=True)
            check(group, number + 1)
        results += group.drain()
        check(group, UPDATES)
        stats = group.get_stats()
        tickets = [result[ALL_MODULES]["ticket"] for result in results]
        assert stats["in_flight"] == stats["failed"] == 0
        assert stats["restarts"] == (num_learners == 2)
        assert len(tickets) == len(set(tickets)) == stats["trained"]
        assert tickets == sorted(tickets)
        if policy == "block" or num_learners == 0:
            assert tickets == list(range(1, UPDATES + 1))
        else:
            assert stats["dropped"] > 0
        (count, first), *others = group.foreach_learner(end_of)
        assert count == stats["trained"]  # what counts as trained was trained, once, by every Learner
        for other_count, other in others:
            assert other_count == count
            assert_same(first, other)
