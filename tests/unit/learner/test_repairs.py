"""Cases that once went wrong, each kept small."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from support.episodes import make_episode
from support.learners import assert_same, differ, make_columns, make_config, make_learner, weights
from unison import ALL_MODULES, SingleAgentEpisode
from unison.algorithms import PPOLearner
from unison.errors import BatchError, ModuleError, NonFiniteError
from unison.learner.connectors import episodes_to_columns
from unison.learner.flat_group import FlatGroup
from unison.learner.update_rules import rule_for


class Poisoned(PPOLearner):
    """One entry of one gradient is not finite."""

    value = float("nan")

    def compute_gradients(self, loss_per_module: Any) -> Any:
        gradients = super().compute_gradients(loss_per_module)
        gradients["default_policy/value_head.bias"][0] = self.value
        return gradients


def test_the_bad_parameter_alone_is_named_and_zeroed_also_with_clipping() -> None:
    learner = make_learner(make_config(nan_policy="zero", grad_clip=0.5, optimizer="sgd", lr=1.0), cls=Poisoned)
    before = weights(learner)
    results = learner.update_from_batch(make_columns(8))
    assert results["default_policy"]["non_finite_parameters"] == "default_policy/value_head.bias"
    assert differ(before, weights(learner)) == set(before) - {"default_policy/value_head.bias"}


@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_clipping_hides_no_infinity(by: str) -> None:
    class Infinite(Poisoned):
        value = float("inf")

    learner = make_learner(make_config(nan_policy="raise", grad_clip=0.5, grad_clip_by=by), cls=Infinite)
    with pytest.raises(NonFiniteError, match=r"value_head\.bias"):
        learner.update_from_batch(make_columns(8))


def test_a_skipped_step_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    make_learner(make_config(nan_policy="skip"), cls=Poisoned).update_from_batch(make_columns(8))
    assert "module 'default_policy' had gradients that are not finite" in caplog.text


def test_a_parameter_that_was_left_out_is_at_an_earlier_step_of_its_own() -> None:
    ours = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    theirs = copy.deepcopy(ours)
    optimizer, reference = torch.optim.Adam(ours, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    rule, _ = rule_for(optimizer)
    group = FlatGroup(optimizer, 0, {"a": ours[0], "b": ours[1]}, rule)
    for step in range(6):
        given = {"a": torch.randn(3), "b": torch.randn(2)} if step > 2 else {"b": torch.randn(2)}
        for name, parameter in zip("ab", theirs, strict=True):
            parameter.grad = given.get(name)
        reference.step()
        group.step(torch.zeros(()), group.write(given), fused=True)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_a_rate_set_before_the_steps_is_applied() -> None:
    class Still(PPOLearner):
        def before_gradient_based_update(self, *, timesteps: Any) -> None:
            self._set_optimizer_lr(self.get_optimizer(), 0.0)

    learner = make_learner(cls=Still)
    before = weights(learner)
    results = learner.update_from_batch(make_columns(8))
    assert results["default_policy"]["default_optimizer_learning_rate"] == 0.0
    assert_same(before, weights(learner))


def test_a_failed_update_puts_back_rates_and_coefficients_of_idle_modules_too() -> None:
    class Failing(PPOLearner):
        def after_gradient_based_update(self, *, timesteps: Any) -> None:
            super().after_gradient_based_update(timesteps=timesteps)
            raise RuntimeError("late")

    learner = make_learner(make_config(lr=[[0, 1.0], [10, 0.0]]), cls=Failing, module_ids=("a", "b"))
    with pytest.raises(RuntimeError, match="late"):
        learner.update_from_batch({"a": make_columns(8)}, timesteps={"num_env_steps_sampled_lifetime": 10})
    assert [o.param_groups[0]["lr"] for _, o in learner.get_optimizers_for_module()] == [1.0, 1.0]
    assert learner.results == {}


def test_a_module_added_late_begins_with_the_rate_of_now() -> None:
    from unison import SingleAgentRLModuleSpec

    learner = make_learner(make_config(lr=[[0, 1.0], [100, 0.5]]))
    learner.update_from_batch(make_columns(8), timesteps={"num_env_steps_sampled_lifetime": 100})
    module = learner.module["default_policy"]
    spec = SingleAgentRLModuleSpec(observation_space=module.observation_space, action_space=module.action_space)
    learner.add_module(module_id="late", module_spec=spec)
    assert learner.get_optimizer("late").param_groups[0]["lr"] == 0.5


def test_the_loss_scale_is_kept_where_the_checkpoint_has_none() -> None:
    scaled = make_learner(make_config().framework(precision="fp16"))
    scaled.set_state(make_learner().get_state())
    assert float(scaled.precision.state["scale"]) == 2.0**16


def test_environment_steps_of_sequences_are_those_that_count() -> None:
    config = make_config().rl_module(model_config={"hidden_sizes": (8,), "lstm_size": 4, "max_seq_len": 5})
    learner = make_learner(config)
    initial = learner.module["default_policy"].get_initial_state()
    columns, _ = episodes_to_columns(learner, [make_episode(7, 0, initial_state=initial)])
    results = learner.update_from_batch(columns["default_policy"])
    assert results[ALL_MODULES]["num_env_steps_trained"] == 7


def test_the_callers_episodes_stay_as_they_are() -> None:
    def spoil(rollout: Any, *, learner: Any, module_id: str) -> Any:
        rollout.observations.zero_()
        return rollout

    episode = make_episode(4, 0)
    before = episode.get_observations().copy()
    make_learner(make_config(learner_connectors=[spoil])).update_from_episodes([episode])
    np.testing.assert_array_equal(episode.get_observations(), before)
    growing = SingleAgentEpisode()
    growing.add_env_reset(np.zeros(4, np.float32))
    step = {"extra_model_outputs": {"action_logp": np.float32(-1.0), "action_dist_inputs": np.zeros(3, np.float32)}}
    growing.add_env_step(np.ones(4, np.float32), 1, 1.0, **step)
    make_learner().update_from_episodes([growing])
    growing.add_env_step(np.ones(4, np.float32), 0, 1.0, **step)
    assert len(growing) == 2


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (torch.tensor(1.0), "depends on none of its parameters"),
        (torch.ones(3, requires_grad=True), r"has shape \(3,\)"),
        ({"loss": 1.0}, "is a dict"),
    ],
)
def test_a_loss_that_trains_nothing_is_an_error(loss: Any, message: str) -> None:
    class Wrong(PPOLearner):
        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            return loss

    with pytest.raises(ModuleError, match=message):
        make_learner(cls=Wrong).update_from_batch(make_columns(4))


def test_a_connector_that_returns_nothing_is_named() -> None:
    def forgetful(rollout: Any, *, learner: Any, module_id: str) -> Any:
        return None

    with pytest.raises(BatchError, match="connector forgetful returned NoneType"):
        make_learner(make_config(learner_connectors=[forgetful])).update_from_episodes([make_episode(3, 0)])


def test_gradient_hooks_work_by_themselves() -> None:
    learner = make_learner()
    batch = {"default_policy": {n: torch.as_tensor(v) for n, v in make_columns(8).items()}}
    before = weights(learner)
    loss = learner.compute_loss(fwd_out=learner.module.forward_train(batch), batch=batch)
    gradients = learner.postprocess_gradients(learner.compute_gradients(loss))
    assert len(gradients) == len(list(learner.module.parameters()))
    learner.apply_gradients(gradients)
    assert differ(before, weights(learner)) == set(before)


def test_a_build_that_fails_leaves_nothing_half_built() -> None:
    class Fails(PPOLearner):
        fails = True

        def configure_optimizers(self) -> None:
            if self.fails:
                raise RuntimeError("not yet")
            super().configure_optimizers()

    from unison import SingleAgentRLModuleSpec

    module = make_learner().module["default_policy"]
    spec = SingleAgentRLModuleSpec(observation_space=module.observation_space, action_space=module.action_space)
    learner = Fails(config=make_config(), module_spec=spec)
    with pytest.raises(RuntimeError, match="not yet"):
        learner.build()
    learner.fails = False
    learner.build()
    assert learner.get_optimizers_for_module()


def test_what_torch_itself_loads_into_an_optimizer_counts() -> None:
    learner, other = make_learner(make_config(lr=1e-3)), make_learner(make_config(lr=1e-3))
    learner.update_from_batch(make_columns(8))
    other.set_module_state(learner.get_module_state())
    state = learner.get_optimizer().state_dict()
    state["param_groups"][0]["lr"] = 5e-3
    for each in (learner, other):
        each.get_optimizer().load_state_dict(copy.deepcopy(state))
        results = each.update_from_batch(make_columns(8, seed=1))
        assert results["default_policy"]["default_optimizer_learning_rate"] == pytest.approx(5e-3)
    assert_same(weights(learner), weights(other))
