"""SAC on N Learners is SAC on one: real processes, noise and targets included."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from support.learners import assert_same
from support.ranks import Rank, ranks
from support.sac import BOX, CHOICE, OBS, sac_batch, sac_config
from unison.config import make_module_spec
from unison.learner_group.collectives import SingleCollective
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.transport import WorkerContext

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module", params=[2, 3])
def world(request: pytest.FixtureRequest) -> Iterator[ProcessTransport]:
    """Processes that serve all cases of this file."""
    with ranks(request.param) as transport:
        yield transport


@pytest.mark.parametrize("actions", [BOX, CHOICE])
@pytest.mark.parametrize("prioritized", [False, True])
def test_any_number_of_learners_is_one(world: ProcessTransport, actions: Any, prioritized: bool) -> None:
    config = sac_config(
        replay_prioritized=prioritized, n_step=2, optimizer={"name": "adam", "eps": 1e-3}, gradient_accumulation_steps=2
    )
    config.multi_agent(policies=["a", "b"]).freeze()
    spec = make_module_spec(config, spaces=dict.fromkeys("ab", (OBS, actions)))
    updates: list[Any] = []
    for seed in range(3):
        rows = 25 + seed
        extra: dict[str, Any] = {"n_steps": np.full(rows, 2.0, np.float32)}
        if prioritized:
            extra["weights"] = np.linspace(0.1, 1.0, rows).astype(np.float32)
        batch = {m: sac_batch(rows, 2 * seed + i, actions, **extra) for i, m in enumerate("ab")}
        updates.append(("batch", batch, {"minibatch_size": 8}))
    alone = Rank(WorkerContext(rank=0, world_size=1, collective=SingleCollective()))
    first, _ = alone.run(config, spec, {}, [])
    expected, wanted = alone.run(config, spec, first, updates)
    answers = world.gather(world.call("run", config, spec, first, updates))
    for state, found in answers:
        for module_id, weights in expected["rl_module"].items():
            assert_same(answers[0][0]["rl_module"][module_id], state["rl_module"][module_id])
            for name, value in weights.items():
                np.testing.assert_allclose(state["rl_module"][module_id][name], value, rtol=1e-4, atol=5e-6)
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours["a"].keys() == theirs["a"].keys()
            if prioritized:
                np.testing.assert_allclose(ours["b"]["td_errors"], theirs["b"]["td_errors"], rtol=1e-3, atol=1e-5)
