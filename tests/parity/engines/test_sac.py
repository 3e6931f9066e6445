"""Every engine leaves the same numbers of SAC: weights, targets, temperature, four optimizers."""

import shutil

import numpy as np
import pytest

from support.engines import count_traces, run_both
from support.sac import CHOICE, SACCase, sac_batch
from unison.algorithms.sac.learner import NEXT_NOISE, NOISE, TD_ERRORS
from unison.types import ALL_MODULES

CASES = {
    "continuous": SACCase(),
    "discrete": SACCase(CHOICE),
    "n_step": SACCase(n_step=3),
    "prioritized": SACCase(replay_prioritized=True),
    "schedules_and_clipping": SACCase(actor_lr=[[0, 1e-2], [80, 0.0]], grad_clip=0.1, gradient_accumulation_steps=3),
    "two_modules": SACCase(modules=("a", "b")),
    "n_step_and_prioritized": SACCase(n_step=3, replay_prioritized=True),
}


@pytest.mark.parametrize("name", CASES)
def test_a_traced_step_is_the_step(name: str) -> None:
    run_both(CASES[name], "interpreted")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["continuous", "discrete", "n_step", "prioritized", "two_modules"])
def test_xla_agrees(name: str) -> None:
    pytest.importorskip("jax")
    run_both(CASES[name], "xla")  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("name", ["discrete", "n_step_and_prioritized"])
def test_inductor_agrees(name: str) -> None:
    run_both(CASES[name], "inductor")  # type: ignore[arg-type]


def test_several_steps_in_one_call_are_as_many_calls() -> None:
    """The targets move between the steps of a call."""
    case = SACCase()
    together, apart = case.learner("interpreted"), case.learner("eager")
    noise = {
        name: np.random.default_rng(i).normal(size=(24, 2)).astype(np.float32)
        for i, name in enumerate((NOISE, NEXT_NOISE))
    }
    batch = sac_batch(24, 0) | noise
    together.update_from_batch(batch, minibatch_size=8)
    for start in (0, 8, 16):
        apart.update_from_batch({name: column[start : start + 8] for name, column in batch.items()})
    for name, value in apart.get_module_state()["default_policy"].items():
        np.testing.assert_allclose(together.get_module_state()["default_policy"][name], value, rtol=2e-4, atol=1e-6)


def test_errors_come_back_for_every_row() -> None:
    case = SACCase(replay_prioritized=True)
    eager, traced = case.learner("eager"), case.learner("interpreted")
    ours, theirs = (case.update(learner, 0)["default_policy"][TD_ERRORS] for learner in (eager, traced))
    assert ours.shape == (24,)
    assert (ours > 0).all()
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)


def test_batches_of_many_sizes_share_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = count_traces(monkeypatch)
    case = SACCase(replay_prioritized=True)
    learner = case.learner("interpreted")
    for number, rows in enumerate((8, 32, 16, 8, 24, 16, 32, 8)):
        assert case.update(learner, number, rows)["default_policy"][TD_ERRORS].shape == (rows,)
    assert len(traces) == 2  # There was no room for 32.


def test_batches_that_grow_and_grow_are_not_given_up() -> None:
    learner = SACCase(replay_prioritized=True).learner("interpreted")
    for number in range(8):
        batch = {"default_policy": sac_batch(8 << number, number)}
        results = learner.update_from_batch(batch, minibatch_size=8)
        assert results[ALL_MODULES]["engine"] == "interpreted"
        assert results["default_policy"][TD_ERRORS].shape == (8 << number,)
