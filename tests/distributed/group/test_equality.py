"""N Learners equal one: real processes, random cases, parameters within 1e-5 and bit-identical across ranks."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.equality import compare, compare_results
from support.learners import DISCRETE, OBS, make_columns, make_config, make_sequences
from support.ranks import Rank
from support.states import flat
from unison import SingleAgentEpisode
from unison.algorithms import PPOLearner
from unison.config import make_module_spec
from unison.learner_group.collectives import SingleCollective
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.transport import WorkerContext

pytestmark = pytest.mark.filterwarnings("default")


@settings(max_examples=17, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(st.sampled_from("abc"), st.integers(1, 40), min_size=1),
    size=st.sampled_from([None, 1, 7, 16]),
    iters=st.integers(1, 2),
    accumulate=st.integers(1, 3),
    clip=st.sampled_from([(None, "global_norm"), (0.1, "global_norm"), (0.05, "norm"), (0.01, "value")]),
    poison=st.booleans(),
    policy=st.sampled_from(["skip", "zero", "raise"]),
    shuffle=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_random_cases(
    world: ProcessTransport,
    rows: dict[str, int],
    size: int | None,
    iters: int,
    accumulate: int,
    clip: tuple[float | None, str],
    poison: bool,
    policy: str,
    shuffle: bool,
    seed: int,
) -> None:
    config = make_config(
        lr=1e-2,
        optimizer={"name": "adam", "eps": 1e-3},  # with a tiny eps, rounding in a gradient near 0 decides its sign
        gradient_accumulation_steps=accumulate,
        grad_clip=clip[0],
        grad_clip_by=clip[1],
        nan_policy=policy,
        shuffle_batch_per_epoch=shuffle,
        use_kl_loss=True,
    ).multi_agent(policies=["a", "b", "c"])
    batches = []
    for number in range(2):
        batch = {m: make_columns(n, seed + number + ord(m)) for m, n in rows.items()}
        if poison and number == 0:
            next(iter(batch.values()))["advantages"][0] = np.nan
        batches.append(("batch", batch, {"minibatch_size": size, "num_iters": iters}))
    compare(world, config.freeze(), batches, ("a", "b", "c"))


def test_more_ranks_than_rows(world: ProcessTransport) -> None:
    config = make_config(lr=1e-2).multi_agent(policies=["a"]).freeze()
    compare(world, config, [("batch", {"a": make_columns(1)}, {"num_iters": 3})])


class Counting(PPOLearner):
    """Counts how often its steps see each row."""

    def build(self) -> None:
        super().build()
        self.seen: Counter[tuple[str, int]] = Counter()

    def _update(self, batch: Any) -> Any:
        for module_id, columns in batch.items():
            self.seen.update((module_id, int(row)) for row in columns["row"])
        return super()._update(batch)

    def get_state(self, *args: Any, **kwargs: Any) -> Any:
        return {**super().get_state(*args, **kwargs), "seen": self.seen}

    def set_state(self, state: Any) -> None:
        super().set_state({name: part for name, part in state.items() if name != "seen"})


@pytest.mark.parametrize(("rows", "size"), [({"a": 37, "b": 1}, 7), ({"a": 2, "b": 30}, 16), ({"b": 11}, None)])
def test_every_row_is_used_exactly_num_iters_times(world: ProcessTransport, rows: dict[str, int], size: Any) -> None:
    config = make_config(learner_class=Counting).multi_agent(policies=["a", "b"]).freeze()
    spec = make_module_spec(config, spaces=dict.fromkeys("ab", (OBS, DISCRETE)))
    batch = {m: {**make_columns(n), "row": np.arange(n)} for m, n in rows.items()}
    updates = [("batch", batch, {"minibatch_size": size, "num_iters": 3})]
    answers = world.gather(world.call("run", config, spec, {}, updates))
    seen = sum((state["seen"] for state, _ in answers), Counter())
    assert seen == {(m, row): 3 for m, n in rows.items() for row in range(n)}


def episodes(seed: int, initial: Any = None) -> list[SingleAgentEpisode]:
    """Chunks of several lengths and ends, for module a."""
    from support.episodes import make_episode

    ends = [(9, "terminated"), (4, "truncated"), (13, "cut"), (1, "terminated")]
    return [make_episode(n, seed + i, end=end, initial_state=initial, module_id="a") for i, (n, end) in enumerate(ends)]


@pytest.mark.parametrize("lstm_size", [None, 6])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_episodes_with_values_advantages_and_padding(
    world: ProcessTransport, lstm_size: int | None, accumulate: int
) -> None:
    config = make_config(
        lr=1e-2, optimizer={"name": "adam", "eps": 1e-3}, minibatch_size=8, gradient_accumulation_steps=accumulate
    )
    config.multi_agent(policies=["a"]).rl_module(
        model_config={"hidden_sizes": (8,), "lstm_size": lstm_size, "max_seq_len": 4, "normalize_observations": True}
    )
    initial = None
    if lstm_size:
        initial = config.build_learner(spaces={"a": (OBS, DISCRETE)}).module["a"].get_initial_state()
    updates = [("episodes", episodes(s, initial), {"minibatch_size": 8, "num_iters": 2}) for s in (0, 10)]
    compare(world, config.freeze(), updates)


def test_sequences_with_and_without_a_mask(world: ProcessTransport) -> None:
    config = make_config(lr=1e-2, optimizer={"name": "adam", "eps": 1e-3}, gradient_accumulation_steps=2)
    config.multi_agent(policies=["a"]).rl_module(model_config={"hidden_sizes": (8,), "lstm_size": 6})
    initial = config.build_learner(spaces={"a": (OBS, DISCRETE)}).module["a"].get_initial_state()
    columns = make_sequences(9, 4, initial)
    masked = {**columns, "loss_mask": np.ones((9, 4), np.bool_)}
    arguments = {"minibatch_size": 16, "num_iters": 2}
    plain, whole = (
        compare(world, config.freeze(), [("batch", {"a": batch}, arguments)]) for batch in (columns, masked)
    )
    for (ours, found), (theirs, wanted) in zip(plain, whole, strict=True):
        for name, value in flat(theirs).items():
            np.testing.assert_allclose(flat(ours)[name], value, rtol=1e-5, atol=2e-6, err_msg=name)
        compare_results(found[0], wanted[0])
        assert found[0]["a"]["num_module_steps_trained"] == 2 * 36


def test_the_cases_can_fail(world: ProcessTransport) -> None:
    """Weighing shards alike, as elsewhere, is seen."""
    columns = make_columns(2 * world.num_workers + 1)
    wrong = make_config(lr=1e-2, shuffle_batch_per_epoch=False).multi_agent(policies=["a"]).freeze()
    right = wrong.copy().training(lr=1.1e-2).freeze()
    spec = make_module_spec(wrong, spaces={"a": (OBS, DISCRETE)})
    alone = Rank(WorkerContext(rank=0, world_size=1, collective=SingleCollective()))
    first, _ = alone.run(wrong, spec, {}, [])
    expected, _ = alone.run(right, spec, {"rl_module": first["rl_module"]}, [("batch", {"a": columns}, {})])
    answers = world.gather(world.call("run", wrong, spec, first, [("batch", {"a": columns}, {})]))
    ours, theirs = flat(answers[0][0]), flat(expected)
    differences = [float(np.abs(ours[name] - value).max()) for name, value in theirs.items()]
    assert max(differences) > 1e-4
