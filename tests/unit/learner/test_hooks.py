"""Each hook of the API can be overridden alone, and takes effect."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from support.learners import (
    DISCRETE,
    OBS,
    assert_same,
    differ,
    make_columns,
    make_config,
    make_learner,
    weights,
)
from unison import ALL_MODULES, MultiAgentRLModule, RLModule, SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner
from unison.errors import ModuleError, NotBuiltError
from unison.modules import RandomModule


def moved(cls: type[PPOLearner], config: Any = None) -> tuple[Any, set[str], dict[str, Any]]:
    """A Learner of `cls` after one update, the parameters that it moved, and the results."""
    learner = make_learner(config, cls=cls)
    before = weights(learner)
    results = learner.update_from_batch(make_columns(16))
    return learner, differ(before, weights(learner)), results


def test_compute_loss_for_module_alone_is_the_loss() -> None:
    class ValueOnly(PPOLearner):
        required_columns = ("obs", "value_targets")

        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            self.metrics.log_value((module_id, "my_metric"), torch.tensor(3.0))
            return (fwd_out["vf_preds"] - batch["value_targets"]).square().mean()

    _, names, results = moved(ValueOnly)
    assert names
    assert all("value" in name.partition("/")[2] for name in names)
    assert results["default_policy"]["my_metric"] == 3.0


def test_compute_loss_may_weigh_modules() -> None:
    class OnlyFirst(PPOLearner):
        def compute_loss(self, *, fwd_out: Any, batch: Any) -> Any:
            losses = super().compute_loss(fwd_out=fwd_out, batch=batch)
            return losses | {ALL_MODULES: losses["a"]}

    learner = make_learner(cls=OnlyFirst, module_ids=("a", "b"))
    before = weights(learner)
    learner.update_from_batch({"a": make_columns(8), "b": make_columns(8)})
    assert {name.split("/")[0] for name in differ(before, weights(learner))} == {"a"}


def test_compute_gradients_may_be_replaced() -> None:
    class Ones(PPOLearner):
        def compute_gradients(self, loss_per_module: Any) -> Any:
            return {ref: torch.ones_like(g) for ref, g in super().compute_gradients(loss_per_module).items()}

    learner = make_learner(make_config(grad_clip=None, optimizer="sgd", lr=0.5), cls=Ones)
    before = weights(learner)
    learner.update_from_batch(make_columns(8))
    for name, value in weights(learner).items():
        np.testing.assert_allclose(value, before[name] - 0.5, rtol=1e-6)


def test_gradients_that_a_hook_drops_leave_their_parameters_alone() -> None:
    class Partial(PPOLearner):
        def postprocess_gradients(self, gradients: Any) -> Any:
            processed = super().postprocess_gradients(gradients)
            return {ref: g for ref, g in processed.items() if not ref.endswith("bias")}

    learner, names, _ = moved(Partial)
    assert names
    assert not any(name.endswith("bias") for name in names)
    moments = learner.get_optimizer_state()["default_policy"]["default_optimizer"]["moments"]
    assert {float(value["step"]) for name, value in moments.items() if name.endswith("bias")} == {0.0}
    assert {float(value["step"]) for name, value in moments.items() if not name.endswith("bias")} == {1.0}


def test_postprocess_gradients_for_module_sees_its_module_and_config() -> None:
    seen: list[tuple[str, float, int]] = []

    class Halving(PPOLearner):
        def postprocess_gradients_for_module(
            self, *, module_id: str, config: Any, module_gradients_dict: Any
        ) -> dict[str, Any]:
            seen.append((module_id, config.lr, len(module_gradients_dict)))
            return {ref: g * 0 for ref, g in module_gradients_dict.items()}

    config = make_config().multi_agent(policies={"a", "b"}, algorithm_config_overrides_per_module={"b": {"lr": 0.125}})
    learner = make_learner(config, cls=Halving, module_ids=("a", "b"))
    before = weights(learner)
    learner.update_from_batch({"a": make_columns(8), "b": make_columns(8)})
    assert {entry[:2] for entry in seen} == {("a", 3e-4), ("b", 0.125)}
    assert_same(before, weights(learner))


def test_apply_gradients_may_step_by_itself() -> None:
    class Own(PPOLearner):
        def apply_gradients(self, gradients: Any) -> None:
            optimizer = self.get_optimizer()
            for group in optimizer.param_groups:
                for param in group["params"]:
                    param.grad = gradients[self.get_param_ref(param)].clone()
            optimizer.step()
            optimizer.zero_grad()

    reference = make_learner()
    reference.update_from_batch(make_columns(16), num_iters=3)
    learner = make_learner(cls=Own)
    learner.update_from_batch(make_columns(16), num_iters=3)
    for name, value in weights(reference).items():
        np.testing.assert_allclose(weights(learner)[name], value, rtol=1e-5, atol=1e-7)


def test_update_hooks_get_the_timesteps_and_run_around_the_steps() -> None:
    calls: list[Any] = []

    class Recording(PPOLearner):
        def before_gradient_based_update(self, *, timesteps: Any) -> None:
            calls.append(("before", dict(timesteps)))

        def _update(self, batch: Any) -> Any:
            calls.append("step")
            return super()._update(batch)

        def after_gradient_based_update(self, *, timesteps: Any) -> None:
            super().after_gradient_based_update(timesteps=timesteps)
            calls.append(("after", self.results["default_policy"]["num_module_steps_trained"]))

    learner = make_learner(cls=Recording)
    steps = {"num_env_steps_sampled_lifetime": 7}
    learner.update_from_batch(make_columns(16), minibatch_size=8, timesteps=steps)
    assert calls == [("before", steps), "step", "step", ("after", 16.0)]


def test_schedules_move_rates_and_coefficients_and_results_tell_what_was_applied() -> None:
    learner = make_learner(make_config(lr=[[0, 1.0], [100, 0.0]], entropy_coeff=[[0, 0.5], [100, 0.0]]))
    rates, coefficients = [], []
    for step in (50, 80, 100):
        results = learner.update_from_batch(make_columns(8), timesteps={"num_env_steps_sampled_lifetime": step})
        rates.append(results["default_policy"]["default_optimizer_learning_rate"])
        coefficients.append(results["default_policy"]["curr_entropy_coeff"])
    np.testing.assert_allclose(rates, [1.0, 0.5, 0.2])
    np.testing.assert_allclose(coefficients, [0.5, 0.25, 0.1])
    assert learner._get_optimizer_lr(learner.get_optimizer()) == 0.0
    before = weights(learner)
    learner.update_from_batch(make_columns(8))
    assert_same(before, weights(learner))  # the rate of 0 is the one applied


def test_a_rate_set_by_hand_is_applied() -> None:
    learner = make_learner()
    learner._set_optimizer_lr(learner.get_optimizer(), 0.0)
    before = weights(learner)
    results = learner.update_from_batch(make_columns(8))
    assert_same(before, weights(learner))
    assert results["default_policy"]["default_optimizer_learning_rate"] == 0.0


def test_configure_optimizers_for_module_may_register_several() -> None:
    class Two(PPOLearner):
        def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
            named = dict(self.module[module_id].named_parameters())
            values = [p for name, p in named.items() if "value" in name or "vf" in name]
            others = [p for p in named.values() if not any(p is v for v in values)]
            for name, params, rate in (("critic", values, 0.0), ("actor", others, 1e-2)):
                self.register_optimizer(
                    module_id=module_id,
                    optimizer_name=name,
                    optimizer=torch.optim.Adam(params),
                    params=params,
                    lr_or_lr_schedule=rate,
                )

    _, names, results = moved(Two)
    assert names
    assert not any("value" in name or "vf" in name for name in names)
    assert {"gradients_critic_global_norm", "gradients_actor_global_norm"} <= results["default_policy"].keys()
    assert results["default_policy"]["actor_learning_rate"] == pytest.approx(1e-2)


def test_configure_optimizers_may_take_one_for_all_modules() -> None:
    class One(PPOLearner):
        def configure_optimizers(self) -> None:
            params = [p for module in self.module.values() for p in self.get_parameters(module)]
            self.register_optimizer(optimizer=torch.optim.SGD(params, lr=0.1), params=params, lr_or_lr_schedule=0.1)

    learner = make_learner(cls=One, module_ids=("a", "b"))
    before = weights(learner)
    learner.update_from_batch({"a": make_columns(8), "b": make_columns(8)})
    assert {name.split("/")[0] for name in differ(before, weights(learner))} == {"a", "b"}


def test_the_clip_function_may_be_replaced() -> None:
    def nothing_left(gradients: Any, *, grad_clip: Any, grad_clip_by: str) -> Any:
        for gradient in gradients:
            gradient.zero_()
        return torch.tensor(42.0)

    class Zeroing(PPOLearner):
        def _get_clip_function(self) -> Any:
            return nothing_left

    _, names, results = moved(Zeroing)
    assert not names
    assert results["default_policy"]["gradients_default_optimizer_global_norm"] == 42.0


def test_should_module_be_updated_may_be_overridden() -> None:
    class NotB(PPOLearner):
        def should_module_be_updated(self, module_id: str, batch: Any = None) -> bool:
            return module_id != "b"

    learner = make_learner(cls=NotB, module_ids=("a", "b"))
    before = weights(learner)
    learner.update_from_batch({"a": make_columns(8), "b": make_columns(8)})
    assert {name.split("/")[0] for name in differ(before, weights(learner))} == {"a"}


def test_get_parameters_decides_what_is_trained() -> None:
    class HeadsOnly(PPOLearner):
        def get_parameters(self, module: Any) -> Any:
            return [p for p in super().get_parameters(module) if p.dim() > 1]

    _, names, _ = moved(HeadsOnly)
    assert names
    assert not any(name.endswith("bias") for name in names)


def test_make_module_may_be_overridden() -> None:
    class Doubled(PPOLearner):
        def _make_module(self) -> MultiAgentRLModule:
            module = super()._make_module()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.fill_(2.0)
            return module

    assert all((value == 2.0).all() for value in weights(make_learner(cls=Doubled)).values())


def test_compatibility_keeps_scripted_modules_out() -> None:
    spec = SingleAgentRLModuleSpec(module_class=RandomModule, observation_space=OBS, action_space=DISCRETE)
    learner = make_learner(module_ids=("a", "b"))
    learner.add_module(module_id="scripted", module_spec=spec)
    assert not learner._is_module_compatible_with_learner(learner.module["scripted"])
    assert learner.get_optimizers_for_module("scripted") == []
    results = learner.update_from_batch({"a": make_columns(4), "scripted": make_columns(4)})
    assert "scripted" not in results


def test_tensor_variables_live_on_the_device() -> None:
    learner = make_learner()
    assert learner._get_tensor_variable(0.5).dtype is torch.float32
    assert learner._get_tensor_variable(3, dtype=torch.int64).item() == 3
    trainable = learner._get_tensor_variable(0.5, trainable=True)
    assert isinstance(trainable, torch.nn.Parameter)
    assert trainable.requires_grad
    assert trainable.device == learner.device


def test_nothing_works_before_build() -> None:
    spec = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE)
    learner = PPOLearner(config=make_config(), module_spec=spec)
    for call in (
        lambda: learner.update_from_batch(make_columns(4)),
        lambda: learner.get_state(),
        lambda: learner.get_optimizer(),
        lambda: learner.module,
        lambda: learner.device,
        lambda: learner.save_state("nowhere"),
        lambda: learner.remove_module("default_policy"),
        lambda: learner.add_module(module_id="b", module_spec=spec),
        lambda: learner.get_optimizers_for_module(),
        lambda: learner.update_from_episodes([]),
    ):
        with pytest.raises(NotBuiltError, match=r"build\(\)"):
            call()
    learner.build()
    module = learner.module
    learner.build()
    assert learner.module is module


def test_a_ready_module_is_taken_as_it_is() -> None:
    class Tiny(RLModule):
        def setup(self) -> None:
            self.layer = torch.nn.Linear(4, 4)

        def forward_inference(self, batch: Any) -> Any:
            out = self.layer(batch["obs"])
            return {"action_dist_inputs": out[:, :3], "vf_preds": out[:, 3]}

    module = Tiny(observation_space=OBS, action_space=DISCRETE)
    learner = PPOLearner(config=make_config(), module=module)
    learner.build()
    assert learner.module["default_policy"] is module
    before = weights(learner)
    learner.update_from_batch(make_columns(8))
    assert differ(before, weights(learner))
    spec = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE)
    with pytest.raises(ModuleError, match="not both"):
        PPOLearner(config=make_config(), module=module, module_spec=spec)


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    learner = make_learner()
    learner.update_from_batch(make_columns(16), minibatch_size=4, num_iters=2)
    assert torch.equal(torch.rand(3), expected)


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = make_learner(), make_learner()
    for learner in (first, second):
        learner.update_from_batch(make_columns(32), minibatch_size=8, num_iters=3)
    assert_same(weights(first), weights(second))


def test_a_custom_space_needs_no_special_care() -> None:
    config = make_config().environment(
        observation_space=gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,)), "b": gym.spaces.Discrete(3)}),
        action_space=DISCRETE,
    )
    learner = config.build_learner()
    columns = make_columns(8)
    columns["obs"] = {"a": np.zeros((8, 2), np.float32), "b": np.zeros(8, np.int64)}  # type: ignore[assignment]
    before = weights(learner)
    learner.update_from_batch(columns, minibatch_size=4)
    assert differ(before, weights(learner))
