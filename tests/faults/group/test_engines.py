"""After a fault all ranks step by the same engine, whatever each of them has seen before: their bits are the same."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.hosted import misbehave
from support.learners import DISCRETE, OBS, make_columns, make_config
from support.traps import states
from unison import LearnerGroup
from unison.algorithms import PPOLearner
from unison.errors import BatchError

pytest.importorskip("jax")


class Failing(PPOLearner):
    """Fails before the steps of its next update, if it was told to; its steps can be compiled."""

    fault = ""

    def before_gradient_based_update(self, *, timesteps: Any) -> None:
        fault, self.fault = self.fault, ""
        if fault:
            time.sleep(0.5)  # The other rank has begun its steps by then.
            misbehave(fault)
        super().before_gradient_based_update(timesteps=timesteps)


def fail(learner: Any, rank: int, fault: str) -> None:
    if learner.collective.rank == rank:
        learner.fault = fault


@pytest.fixture
def group() -> Iterator[LearnerGroup]:
    """Its first update is compiled at once, those of other sizes when they come for the second time."""
    config = make_config(learner_class=Failing).framework(engine="xla").resources(num_learners=2)
    with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:
        assert engines(group, 8) == ["xla", "xla"]
        yield group


def engines(group: LearnerGroup, minibatch_size: int) -> list[str]:
    """What each rank takes the steps of an update with; they leave the same bits."""
    group.update_from_batch(make_columns(40), minibatch_size=minibatch_size)
    states(group)
    return group.foreach_learner(lambda learner: learner.engine.report()["engine"])


def test_a_rank_that_was_lost_has_seen_fewer_updates(group: LearnerGroup) -> None:
    engines(group, 10)
    assert engines(group, 10) == ["xla", "xla"]
    group.foreach_learner(fail, rank=1, fault="SIGKILL")
    assert engines(group, 8) == ["xla", "xla"]
    for _ in range(2):
        assert len(set(engines(group, 10))) == 1
    assert engines(group, 10) == ["xla", "xla"]


def test_a_rank_that_raised_has_not_come_as_far_as_the_others(group: LearnerGroup) -> None:
    group.foreach_learner(fail, rank=1, fault="raise")
    with pytest.raises(BatchError):
        engines(group, 10)
    for _ in range(2):
        assert len(set(engines(group, 10))) == 1


def test_what_all_ranks_refuse_leaves_their_programs(group: LearnerGroup) -> None:
    programs = group.foreach_learner(lambda learner: id(learner.engine))
    with pytest.raises(BatchError, match="advantages"):
        group.update_from_batch(make_columns(40) | {"advantages": make_columns(3)["advantages"]})
    assert group.foreach_learner(lambda learner: id(learner.engine)) == programs
