"""A LearnerGroup on real processes: what its Learners share, and what becomes of it when they are lost."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config
from unison import ALL_MODULES, LearnerGroup, SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner
from unison.errors import BatchError, LearnerGroupError, ModuleError

SPEC = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (8,)})


class Fragile(PPOLearner):
    """Fails as it is told, on one rank, in a given step of an update."""

    fault = ""
    countdown = 0

    def _update(self, batch: Any) -> Any:
        if self.fault and self.collective.rank == self.collective.world_size - 1:
            self.countdown -= 1
            if self.countdown < 0:
                fault, self.fault = self.fault, ""
                if fault == "raise":
                    raise RuntimeError("from user code")
                if fault == "memory":
                    raise MemoryError("no memory left")
                os.kill(os.getpid(), signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
        return super()._update(batch)


def set_fault(learner: Any, fault: str, step: int) -> None:
    """Arm a Learner."""
    learner.fault, learner.countdown = fault, step


def pid(learner: Any) -> int:
    """The process of a Learner."""
    return os.getpid()


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


def make_group(num_learners: int, *, seed: int | None = 0, **faults: Any) -> LearnerGroup:
    config = make_config(learner_class=Fragile).debugging(seed=seed).resources(num_learners=num_learners)
    config.fault_tolerance(learner_timeout_s=faults.pop("timeout", 60.0), **faults)
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
        os.kill(other.foreach_learner(pid)[1], signal.SIGKILL)
        first, second = (group.update_from_batch({"d": make_columns(8, 1)}) for group in (pair, other))
        assert first["d"]["default_optimizer_learning_rate"] == second["d"]["default_optimizer_learning_rate"] == 0.01
        assert first[ALL_MODULES]["ticket"] == second[ALL_MODULES]["ticket"]
        assert_alike(other)  # The Learner that came back has the module too.
        assert_same(weights_of_group(pair), weights_of_group(other))
    pair.remove_module("d")
    pair.set_state(before)


def test_bad_batches_raise_what_a_lone_learner_raises(pair: LearnerGroup) -> None:
    before = pair.foreach_learner(weights_of)[0]
    with pytest.raises(BatchError, match="'advantages' has 3 rows"):
        pair.update_from_batch({**make_columns(8), "advantages": np.zeros(3, np.float32)})
    assert_same(before, pair.foreach_learner(weights_of)[0])
    pair.update_from_batch(make_columns(8))


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


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_a_lost_learner_comes_back_and_nothing_is_lost(fault: str, step: int) -> None:
    batches = [make_columns(32, seed) for seed in range(3)]
    with make_group(0) as alone, make_group(2, timeout=4.0) as group:
        for number, batch in enumerate(batches):
            if number == 1:
                group.foreach_learner(set_fault, fault=fault, step=step)
            expected = alone.update_from_batch(batch, minibatch_size=8, num_iters=2)
            results = group.update_from_batch(batch, minibatch_size=8, num_iters=2)
            assert results[ALL_MODULES]["num_updates"] == expected[ALL_MODULES]["num_updates"]
        assert group.get_stats()["restarts"] == 1
        assert_alike(group)
        for name, value in alone.foreach_learner(weights_of)[0].items():
            np.testing.assert_allclose(group.foreach_learner(weights_of)[0][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("fault", "kind"), [("raise", RuntimeError), ("memory", MemoryError)])
def test_an_exception_on_one_rank_is_raised_with_its_traceback_and_undone(fault: str, kind: Any) -> None:
    with make_group(2) as group:
        group.update_from_batch(make_columns(32))
        before = group.foreach_learner(weights_of)[0]
        group.foreach_learner(set_fault, fault=fault, step=2)
        with pytest.raises(kind) as raised:
            group.update_from_batch(make_columns(32), minibatch_size=8)
        notes = "\n".join(raised.value.__notes__)
        assert "rank 1" in notes
        assert "_update" in notes
        assert_alike(group)
        assert_same(before, group.foreach_learner(weights_of)[0])
        stats = group.get_stats()
        assert (stats["submitted"], stats["trained"], stats["failed"]) == (2, 1, 1)
        group.update_from_batch(make_columns(32))


def test_too_many_losses_are_an_error_and_the_state_survives() -> None:
    with make_group(2, max_learner_restarts=0) as group:
        group.update_from_batch(make_columns(32))
        before = group.foreach_learner(weights_of)[0]
        group.foreach_learner(set_fault, fault="kill", step=1)
        with pytest.raises(LearnerGroupError, match="max_learner_restarts"):
            group.update_from_batch(make_columns(32), minibatch_size=8)
        assert before
    begin = time.monotonic()
    with make_group(1) as group:
        group.update_from_batch(make_columns(32))
        os.kill(group.foreach_learner(pid)[0], signal.SIGKILL)
        with pytest.raises(LearnerGroupError, match="No Learner survived"):
            group.update_from_batch(make_columns(32))
    assert time.monotonic() - begin < 60


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
