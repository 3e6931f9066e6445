"""N Learners on the compiling engines equal one eager Learner: 50 random cases, with 1 to 4 ranks.

Each number of ranks has a shape of its own, which is compiled once; what hypothesis draws is data. With two, the last
minibatch is a single row, so one of them has none.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config, weights
from support.ranks import Rank, ranks
from support.states import flat
from unison.config import make_module_spec
from unison.learner.engines import compiled
from unison.learner_group.collectives import SingleCollective
from unison.learner_group.transport import WorkerContext

pytestmark = pytest.mark.filterwarnings("default")
SHAPES: dict[int, dict[str, Any]] = {
    1: {"rows": {"a": 21, "b": 5}, "size": 7, "iters": 2, "training": {"grad_clip": 0.1}},
    2: {"rows": {"a": 25}, "size": 8, "iters": 2, "training": {"grad_clip": 0.05, "grad_clip_by": "norm"}},
    3: {"rows": {"b": 13}, "size": None, "iters": 3, "training": {}},
    4: {
        "rows": {"a": 30},
        "size": 10,
        "iters": 1,
        "training": {"grad_clip": 0.01, "grad_clip_by": "value", "gradient_accumulation_steps": 2},
    },
}
CASES = [("xla", 1, 10), ("xla", 2, 12), ("xla", 3, 12), ("xla", 4, 12)]
CASES += [("inductor", 1, 4), ("inductor", 2, 4), ("inductor", 3, 4), ("inductor", 4, 4)]


@pytest.mark.parametrize(("engine", "number", "examples"), CASES)
def test_random_cases(engine: str, number: int, examples: int) -> None:
    if engine == "xla":
        pytest.importorskip("jax")
    shape = SHAPES[number]
    config = make_config(lr=1e-2, optimizer={"name": "adam", "eps": 1e-3}, use_kl_loss=True, **shape["training"])
    config.multi_agent(policies=["a", "b"])
    spec = make_module_spec(config, spaces=dict.fromkeys("ab", (OBS, DISCRETE)))
    alone = Rank(WorkerContext(rank=0, world_size=1, collective=SingleCollective()))
    first, _ = alone.run(config.copy().freeze(), spec, {}, [])
    compiled = config.copy().framework(engine=engine).freeze()
    arguments = {"minibatch_size": shape["size"], "num_iters": shape["iters"]}

    with ranks(number, timeout_s=400.0) as world:

        @settings(max_examples=examples, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
        @given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 10.0]), poison=st.booleans())
        def run(seed: int, scale: float, poison: bool) -> None:
            batch = {m: make_columns(n, seed + ord(m)) for m, n in shape["rows"].items()}
            for columns in batch.values():
                columns["advantages"] *= np.float32(scale)
            if poison:
                next(iter(batch.values()))["advantages"][0] = np.nan
            updates = [("batch", batch, arguments)]
            expected, (wanted,) = alone.run(config.copy().freeze(), spec, first, updates)
            answers = world.gather(world.call("run", compiled, spec, first, updates, keep="compiled"))
            for state, (found,) in answers:
                assert found["__all_modules__"]["engine"] == engine, found["__all_modules__"]
                for module_id, rows in shape["rows"].items():
                    used = found[module_id]["num_module_steps_trained"]
                    assert used == wanted[module_id]["num_module_steps_trained"] == rows * shape["iters"]
                assert_same(flat(answers[0][0]), flat(state))
            for name, value in flat(expected).items():
                np.testing.assert_allclose(flat(answers[0][0])[name], value, rtol=1e-4, atol=1e-5, err_msg=name)

        run()


def test_uneven_shares_are_compiled_on_all_ranks_at_once() -> None:
    """Of 5 and 6 rows rank 0 has 3 each time, the other rank 2 and 3: it meets each of its shapes once."""
    pytest.importorskip("jax")
    config = make_config().framework(engine="xla").resources(num_learners=2)
    with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:
        for rows, engine in ((40, "xla"), (5, "eager"), (6, "eager"), (5, "xla"), (6, "xla")):
            group.update_from_batch(make_columns(rows, rows))
            assert group.foreach_learner(lambda learner: learner.engine.report()["engine"]) == [engine, engine]
            assert_same(*group.foreach_learner(weights))


def test_a_program_that_one_rank_refuses_is_used_by_none() -> None:
    """By another engine it would round elsewhere than the others, and no longer be like them."""
    pytest.importorskip("jax")

    def doubt(learner: Any) -> None:
        if learner.collective.rank == 1:
            setattr(compiled, "disagreement", lambda *_: "it is Sunday")  # noqa: B010  # in a process of its own

    config = make_config().framework(engine="xla").resources(num_learners=2)
    with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:
        group.foreach_learner(doubt)
        results = group.update_from_batch(make_columns(40))
        assert results["__all_modules__"]["engine"] == "eager"
        assert "it is Sunday" in results["__all_modules__"]["engine_reason"]
        assert_same(*group.foreach_learner(weights))
