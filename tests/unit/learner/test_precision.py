"""Mixed precision: close to float32, loss scaling in the right order, overflow skipped and recovered from."""

from typing import Any

import numpy as np
import pytest
import torch

from support.learners import TwoOptimizers, assert_same, make_columns, make_config, make_learner, weights
from unison import ALL_MODULES
from unison.algorithms import PPOLearner
from unison.errors import NonFiniteError
from unison.learner.precision import Precision


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_stays_close_to_float32(precision: str) -> None:
    full = make_learner()
    reduced = make_learner(make_config().framework(precision=precision))
    columns = make_columns(64)
    for learner in (full, reduced):
        learner.update_from_batch(columns, minibatch_size=16, num_iters=2)
    ours, theirs = weights(reduced), weights(full)
    for name, value in theirs.items():
        # Adam moves each weight by at most about lr per step; 8 steps of 3e-4, of which half may differ in sign.
        np.testing.assert_allclose(ours[name], value, atol=2e-3, err_msg=name)
    assert all(value.dtype == np.float32 for value in ours.values())


def test_the_forward_pass_really_runs_in_bf16() -> None:
    seen: list[torch.dtype] = []

    class Looking(PPOLearner):
        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            seen.append(fwd_out["action_dist_inputs"].dtype)
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

    make_learner(make_config().framework(precision="bf16"), cls=Looking).update_from_batch(make_columns(8))
    assert seen == [torch.bfloat16]


def test_clipping_sees_unscaled_gradients() -> None:
    norms = []
    for precision in ("float32", "fp16"):
        learner = make_learner(make_config(grad_clip=1e-3).framework(precision=precision))
        results = learner.update_from_batch(make_columns(32))
        norms.append(results["default_policy"]["gradients_default_optimizer_global_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-2)


def test_accumulation_with_scaling_equals_the_larger_minibatch() -> None:
    parts = make_config(shuffle_batch_per_epoch=False, gradient_accumulation_steps=2).framework(precision="fp16")
    whole = make_config(shuffle_batch_per_epoch=False).framework(precision="fp16")
    ours, theirs = make_learner(parts), make_learner(whole)
    columns = make_columns(32)
    ours.update_from_batch(columns, minibatch_size=8)
    theirs.update_from_batch(columns, minibatch_size=16)
    for name, value in weights(theirs).items():
        np.testing.assert_allclose(weights(ours)[name], value, atol=5e-4, err_msg=name)


def test_overflow_skips_the_step_and_halves_the_scale() -> None:
    learner = make_learner(make_config(nan_policy="raise").framework(precision="fp16"))
    learner.precision.state["scale"].fill_(2.0**40)  # no fp16 gradient survives this
    before = weights(learner)
    results = learner.update_from_batch(make_columns(16), minibatch_size=8)
    assert_same(before, weights(learner))
    assert results[ALL_MODULES]["loss_scale"] == 2.0**38
    assert results[ALL_MODULES]["num_non_finite_steps"] == 2
    for _ in range(20):
        learner.update_from_batch(make_columns(16), minibatch_size=8)
    assert any((weights(learner)[name] != value).any() for name, value in before.items())


@pytest.mark.parametrize("name", ["policy", "value"])
def test_an_overflow_of_any_optimizer_halves_the_scale(name: str) -> None:
    class Overflowing(TwoOptimizers):
        def compute_gradients(self, loss_per_module: Any) -> Any:
            gradients = super().compute_gradients(loss_per_module)
            gradients[next(iter(self.optimizers.get("default_policy", name).refs))].fill_(np.inf)
            return gradients

    learner = make_learner(make_config().framework(precision="fp16"), cls=Overflowing)
    assert learner.update_from_batch(make_columns(8))[ALL_MODULES]["loss_scale"] == 2.0**15


def test_the_scale_doubles_after_enough_finite_steps() -> None:
    precision = Precision("fp16", torch.device("cpu"), initial_scale=4.0, growth_interval=3)
    scales = []
    for bad in (0, 0, 0, 1, 0, 0, 0, 0, 0, 0):
        precision.update(torch.tensor(float(bad)))
        scales.append(float(precision.state["scale"]))
    assert scales == [4, 4, 8, 4, 4, 4, 8, 8, 8, 16]


def test_what_no_smaller_scale_can_mend_is_no_overflow() -> None:
    learner = make_learner(make_config(nan_policy="raise").framework(precision="fp16"))
    columns = make_columns(8)
    columns["value_targets"][0] = np.nan
    learner.precision.state["scale"].fill_(2.0)
    assert learner.update_from_batch(columns)[ALL_MODULES]["loss_scale"] == 1.0
    with pytest.raises(NonFiniteError, match=r"\['value_targets'\]"):
        learner.update_from_batch(columns)
