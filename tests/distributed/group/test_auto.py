"""Several Learners under `auto` change the engine with the same update, though each has a clock of its own."""

from typing import Any

import pytest

from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config, weights
from unison.learner.engines import auto

pytest.importorskip("jax")


class Clock:
    """Each look at it takes a while: on rank 1 twice as long as on rank 0."""

    now = 0.0

    def __init__(self, rank: int) -> None:
        self.tick = 0.2 * (1 + rank)

    def perf_counter(self) -> float:
        self.now += self.tick
        return self.now


def set_clock(learner: Any) -> None:
    setattr(auto, "time", Clock(learner.collective.rank))  # noqa: B010  # in a process of its own


def engine_of(learner: Any) -> str:
    return learner.engine.report()["engine"]


def test_all_ranks_change_the_engine_at_once() -> None:
    config = make_config().framework(engine="auto").resources(num_learners=2)
    with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:
        group.foreach_learner(set_clock)
        engines: list[str] = []
        for number in range(8):
            group.update_from_batch(make_columns(40, number))
            first, second = group.foreach_learner(engine_of)
            assert first == second
            engines.append(first)
            assert_same(*group.foreach_learner(weights))
        assert {"eager", "xla"} == set(engines)
