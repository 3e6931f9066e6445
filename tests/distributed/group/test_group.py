"""A LearnerGroup on real processes: what its Learners share. What becomes of it on faults: tests/faults/group."""

import gc
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config
from unison import ALL_MODULES, LearnerGroup, SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner
from unison.errors import BatchError, LearnerGroupError, ModuleError
from unison.modules import ActorCritic

SPEC = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (8,)})


def weights_of(learner: Any) -> dict[str, Any]:
    """A Learner's weights and moments by name, copied."""
    state = learner.get_state()
    flat = {f"{m}/{n}": v.copy() for m, named in state["rl_module"].items() for n, v in named.items()}
    for m, slots in state["optimizer"].items():
        for saved in slots.values():
            flat |= {f"{m}/{n}/{k}": v.copy() for n, values in saved["moments"].items() for k, v in values.items()}
    return flat


def weights_of_group(group: LearnerGroup) -> dict[str, Any]:
    """The first Learner's weights and moments."""
    return group.foreach_learner(weights_of)[0]


def make_group(num_learners: int, *, seed: int | None = 0) -> LearnerGroup:
    config = make_config().debugging(seed=seed).resources(num_learners=num_learners)
    return config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)})


@pytest.fixture(scope="module")
def pair() -> Iterator[LearnerGroup]:
    """Two Learners that draw their own seed, for the tests that leave them whole."""
    with make_group(2, seed=None) as group:
        yield group


def assert_alike(group: LearnerGroup) -> None:
    first, *others = group.foreach_learner(weights_of)
    for other in others:
        assert_same(first, other)


def test_learners_without_a_seed_are_alike(pair: LearnerGroup) -> None:
    assert_alike(pair)
    results = pair.update_from_batch(make_columns(41), minibatch_size=8, num_iters=2)
    assert_alike(pair)
    assert results["default_policy"]["num_module_steps_trained"] == 82
    assert pair.is_remote
    assert len(pair) == 2


def test_modules_come_and_go_on_all_learners(pair: LearnerGroup) -> None:
    for _ in range(2):
        pair.add_module(module_id="new", module_spec=SPEC)
        assert_alike(pair)
        assert "new" in pair.update_from_batch({"new": make_columns(9)})
        assert_alike(pair)
        pair.remove_module("new")
    with pytest.raises(ModuleError, match="no module 'new'"):
        pair.remove_module("new")
    assert set(pair.get_weights()) == {"default_policy"}


class OfItsOwnMind(PPOLearner):
    """Each rank would train another module."""

    def should_module_be_updated(self, module_id: str, batch: Any = None) -> bool:
        return (module_id == "a") == (self.collective.rank == 0)


def at_random(module_id: str, batch: Any) -> bool:
    return random.random() < 0.5


def test_all_ranks_train_the_modules_that_the_first_one_says() -> None:
    batch = {"a": make_columns(8), "b": make_columns(8, 1)}
    config = make_config(learner_class=OfItsOwnMind).multi_agent(policies=["a", "b"]).resources(num_learners=2)
    with config.build_learner_group(spaces=dict.fromkeys("ab", (OBS, DISCRETE))) as group:
        assert set(group.update_from_batch(batch)) == {"a", ALL_MODULES}
        assert_alike(group)
    config = make_config().multi_agent(policies=["a", "b"], policies_to_train=at_random).resources(num_learners=2)
    with config.build_learner_group(spaces=dict.fromkeys("ab", (OBS, DISCRETE))) as group:
        for _ in range(8):
            group.update_from_batch(batch)
            assert_alike(group)


class Noisy(PPOLearner):
    def postprocess_gradients(self, gradients: Any) -> Any:
        return {ref: g + 0.1 * torch.randn_like(g) for ref, g in super().postprocess_gradients(gradients).items()}


def test_all_ranks_draw_alike_whatever_they_drew_before_and_after_a_loss() -> None:
    config = make_config(learner_class=Noisy).resources(num_learners=2)
    with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:
        pids = group.foreach_learner(lambda learner: (torch.rand(learner.collective.rank + 1), os.getpid())[1])
        group.update_from_batch(make_columns(16))
        assert_alike(group)
        os.kill(pids[1], signal.SIGKILL)
        group.update_from_batch(make_columns(16, 1))
        assert_alike(group)


def residue(learner: Any) -> Any:
    """What a Learner keeps by module, and the tensors of its process."""
    gc.collect()
    own = (learner.optimizers.slots, learner.coefficients, learner.config_overrides, learner.exchange._sums)
    engine = (learner.engine._entries, learner.engine._chains, learner.engine._sightings)
    metrics = [key for key in learner.metrics.reductions if key[0] not in learner.module]
    tensors = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
    return [len(part) for part in (*own, *engine, metrics, learner.results)], tensors


def test_two_hundred_lives_leave_no_residue_on_any_learner() -> None:
    pytest.importorskip("jax")
    config = make_config().framework(engine="xla").resources(num_learners=2)
    with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:

        def live(number: int) -> None:
            group.add_module(module_id=f"guest_{number}", module_spec=SPEC)
            if number % 80 == 39:
                batch = {m: make_columns(16, number) for m in ("default_policy", f"guest_{number}")}
                assert set(group.update_from_batch(batch, minibatch_size=8)) == {*batch, ALL_MODULES}
            group.remove_module(f"guest_{number}")

        found: list[Any] = []
        for number in range(200):
            live(number)
            if number in (39, 199):
                group.update_from_batch(make_columns(16), minibatch_size=8)
                found.append(group.foreach_learner(residue))
        for (parts, tensors), (parts_then, tensors_then) in zip(found[1], found[0], strict=True):
            assert parts == parts_then
            assert tensors < tensors_then + 40  # Each of the 160 lives in between had 8 parameters and their moments.
        assert_alike(group)


class Refused(ActorCritic):
    """Can't be built in some processes."""

    def __init__(self, **settings: Any) -> None:
        if "REFUSES" in os.environ:
            raise ModuleError("not here")
        super().__init__(**settings)


def refuse(learner: Any, rank: int) -> Any:
    """Let Learner `rank` refuse the module, and no other; returns which modules train."""
    os.environ.pop("REFUSES", None)
    if learner.collective.rank == rank:
        os.environ["REFUSES"] = ""
    return learner.should_update


def test_a_module_that_one_learner_refuses_leaves_the_rule_as_it_was(pair: LearnerGroup) -> None:
    spec = replace(SPEC, module_class=Refused)
    pair.foreach_learner(refuse, rank=1)
    with pytest.raises(ModuleError, match="not here"):
        pair.add_module(module_id="new", module_spec=spec, new_should_module_be_updated=["new"])
    assert pair.foreach_learner(refuse, rank=-1) == [None, None]
    pair.add_module(module_id="new", module_spec=spec, new_should_module_be_updated=["new"])
    assert pair.foreach_learner(refuse, rank=-1) == [("new",), ("new",)]
    pair.replace_should_update(None)
    pair.remove_module("new")


def test_a_checkpoint_brings_its_modules_to_all_learners(pair: LearnerGroup, tmp_path: Path) -> None:
    before = pair.get_state()
    pair.add_module(module_id="d", module_spec=SPEC, config_overrides={"lr": 0.01})
    pair.update_from_batch({"d": make_columns(8)})
    pair.save_state(tmp_path / "group")
    with make_group(2) as other:
        other.update_from_batch(make_columns(8))
        other.load_state(tmp_path / "group")
        assert_alike(other)
        assert_same(weights_of_group(pair), weights_of_group(other))
        os.kill(other.foreach_learner(lambda learner: os.getpid())[1], signal.SIGKILL)
        first, second = (group.update_from_batch({"d": make_columns(8, 1)}) for group in (pair, other))
        assert first["d"]["default_optimizer_learning_rate"] == second["d"]["default_optimizer_learning_rate"] == 0.01
        assert first[ALL_MODULES]["ticket"] == second[ALL_MODULES]["ticket"]
        assert_alike(other)  # The Learner that came back has the module too.
        assert_same(weights_of_group(pair), weights_of_group(other))
        other.save_state(tmp_path / "two")
    with make_group(0) as alone:  # What two Learners saved, one loads; and the reverse.
        alone.load_state(tmp_path / "two")
        assert_same(weights_of_group(pair), weights_of_group(alone))
        for group in (alone, pair):
            group.update_from_batch({"d": make_columns(8, 2)})
        alone.save_state(tmp_path / "one")
    pair.load_state(tmp_path / "one")
    assert_alike(pair)
    pair.remove_module("d")
    pair.set_state(before)


def test_bad_batches_raise_what_a_lone_learner_raises(pair: LearnerGroup) -> None:
    before = pair.foreach_learner(weights_of)[0]
    with pytest.raises(BatchError, match="'advantages' has 3 rows"):
        pair.update_from_batch({**make_columns(8), "advantages": np.zeros(3, np.float32)})
    assert_same(before, pair.foreach_learner(weights_of)[0])
    pair.update_from_batch(make_columns(8))


def test_a_state_takes_the_results_of_later_updates_with_it(pair: LearnerGroup) -> None:
    """Their tickets will be those of other updates."""
    state = pair.get_state()
    for number in range(3):
        pair.update_from_batch(make_columns(8, number), async_update=True)
    pair.set_state(state)
    results = [pair.update_from_batch(make_columns(8)), *pair.drain()]
    assert [r[ALL_MODULES]["ticket"] for r in results] == [state["learner_group"]["submitted"] + 1]


def test_async_updates_add_up_at_every_moment(pair: LearnerGroup) -> None:
    begun = pair.get_stats()
    tickets: list[float] = []
    for number in range(40):
        tickets += [
            r[ALL_MODULES]["ticket"] for r in pair.update_from_batch(make_columns(8, number), async_update=True)
        ]
        stats = {name: value - begun[name] for name, value in pair.get_stats().items()}
        assert stats["submitted"] == number + 1
        assert stats["submitted"] == stats["trained"] + stats["dropped"] + stats["failed"] + stats["in_flight"]
        assert stats["in_flight"] <= pair.config.max_queued_updates
    tickets += [r[ALL_MODULES]["ticket"] for r in pair.drain()]
    assert tickets == sorted(tickets)
    assert len(tickets) == 40
    assert_alike(pair)


def test_resizing_keeps_the_state() -> None:
    with make_group(0) as group:
        group.update_from_batch(make_columns(16))
        before = group.foreach_learner(weights_of)[0]
        for number in (2, 1, 0):
            group.resize(number)
            assert len(group) == max(1, number)
            assert_alike(group)
            assert_same(before, group.foreach_learner(weights_of)[0])
        group.update_from_batch(make_columns(16))
        with pytest.raises(LearnerGroupError, match="num_learners is -1"):
            group.resize(-1)


@pytest.mark.parametrize(("engine", "is_there"), [("auto", False), ("inductor", True)])
def test_processes_have_imported_torchs_compiler_where_the_engine_needs_it(engine: str, is_there: bool) -> None:
    config = make_config().framework(engine=engine).resources(num_learners=1)
    with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:
        assert group.foreach_learner(lambda _: "torch._dynamo" in sys.modules) == [is_there]
