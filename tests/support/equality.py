"""N Learners beside one: parameters within 1e-5, bit-identical across ranks, the same metrics."""

from typing import Any

import numpy as np
import pytest

from support.learners import DISCRETE, OBS, assert_same
from support.ranks import Rank
from support.states import flat
from unison.config import make_module_spec
from unison.learner_group.collectives import SingleCollective
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.transport import WorkerContext


def compare(world: ProcessTransport, config: Any, updates: list[Any], modules: tuple[str, ...] = ("a",)) -> list[Any]:
    """Run the updates on one Learner and on all ranks; returns the outcomes of each rank."""
    spec = make_module_spec(config, spaces=dict.fromkeys(modules, (OBS, DISCRETE)))
    alone = Rank(WorkerContext(rank=0, world_size=1, collective=SingleCollective()))
    first, _ = alone.run(config, spec, {}, [])
    expected, outcomes = alone.run(config, spec, first, updates)
    answers = world.gather(world.call("run", config, spec, first, updates))
    states = [flat(state) for state, _ in answers]
    for state in states[1:]:
        assert_same(states[0], state)
    for name, value in flat(expected).items():
        np.testing.assert_allclose(states[0][name], value, rtol=1e-5, atol=2e-6, err_msg=name)
    for rank_outcomes in (found for _, found in answers):
        for ours, theirs in zip(rank_outcomes, outcomes, strict=True):
            assert isinstance(ours, str) == isinstance(theirs, str)
    for _, found in answers:
        for ours, theirs in zip(found, outcomes, strict=True):
            if not isinstance(theirs, str):
                compare_results(ours, theirs)
    return answers


def compare_results(ours: Any, theirs: Any) -> None:
    """The same metrics, of the same values: each rank reports those of all rows."""
    for module_id in theirs:
        assert ours[module_id].keys() == theirs[module_id].keys()
        for name, value in theirs[module_id].items():
            if name.startswith("seconds"):
                continue
            expected = pytest.approx(value, rel=1e-3, abs=1e-5, nan_ok=True) if isinstance(value, float) else value
            assert ours[module_id][name] == expected, name
