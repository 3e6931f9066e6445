"""Adding and removing modules, and modules that share layers."""

from typing import Any

import numpy as np
import pytest
import torch

from support.episodes import make_episode
from support.learners import DISCRETE, OBS, assert_same, differ, make_columns, make_config, make_learner, weights
from unison import MultiAgentRLModule, MultiAgentRLModuleSpec, RLModule, SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner
from unison.errors import ConfigError, ModuleError, OptimizerError

SPEC = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (8,)})


class OneColumn(RLModule):
    """Computes its values as a column."""

    def setup(self) -> None:
        self.net, self.value = torch.nn.Linear(4, 3), torch.nn.Linear(4, 1)

    def forward_inference(self, batch: Any) -> Any:
        return {"action_dist_inputs": self.net(batch["obs"])}

    def forward_train(self, batch: Any) -> Any:
        return {**self.forward_inference(batch), "vf_preds": self.value(batch["obs"])}


def test_values_that_are_a_column_are_named_with_their_module() -> None:
    config = make_config().rl_module(rl_module_spec=SingleAgentRLModuleSpec(OneColumn))
    learner = config.build_learner(spaces={"default_policy": (OBS, DISCRETE)})
    message = r"'default_policy': its values \('vf_preds'\) are \(8, 1\); .* each row, \(8,\), as by .squeeze\(-1\)"
    with pytest.raises(ModuleError, match=message):
        learner.update_from_batch(make_columns(8))


class Mute(OneColumn):
    """Forgets its values."""

    def forward_train(self, batch: Any) -> Any:
        return self.forward_inference(batch)


class Silent(OneColumn):
    """Forgets to return."""

    def forward_train(self, batch: Any) -> Any:
        self.forward_inference(batch)


@pytest.mark.parametrize("engine", ["eager", "inductor"])
@pytest.mark.parametrize(
    ("module_class", "message"),
    [
        (Mute, r"forward_train returned \['action_dist_inputs'\], without \['vf_preds'\]; let it return them too"),
        (Silent, r"forward_train returned a NoneType; return a dict of \[.*'vf_preds'\]"),
    ],
)
def test_what_forward_train_forgets_is_named_with_its_module(module_class: Any, message: str, engine: str) -> None:
    config = make_config().framework(engine=engine).rl_module(rl_module_spec=SingleAgentRLModuleSpec(module_class))
    learner = config.build_learner(spaces={"default_policy": (OBS, DISCRETE)})
    with pytest.raises(ModuleError, match=f"Module 'default_policy': {message}"):
        learner.update_from_batch(make_columns(8))
    with pytest.raises(ModuleError, match=f"Module 'default_policy': {module_class.__name__}: {message}"):
        learner.update_from_episodes([make_episode(5, 0)])


def test_add_train_remove_add_leaves_no_residue() -> None:
    learner = make_learner(module_ids=("a", "b"))
    twin = make_learner(module_ids=("a", "b"))
    for cycle in range(3):
        torch.manual_seed(cycle)
        learner.add_module(module_id="c", module_spec=SPEC, config_overrides={"lr": 0.01})
        before = weights(learner)
        learner.update_from_batch({"c": make_columns(8)})
        assert {name.split("/")[0] for name in differ(before, weights(learner))} == {"c"}
        learner.remove_module("c")
    assert "c" not in learner.module
    assert learner.get_optimizers_for_module("c") == []
    assert learner.get_state().keys() == twin.get_state().keys()
    for part in ("rl_module", "optimizer"):
        assert learner.get_state(part)[part].keys() == twin.get_state(part)[part].keys()
    assert learner.coefficients.keys() == twin.coefficients.keys()
    learner.add_module(module_id="c", module_spec=SPEC)
    step = learner.get_optimizer_state()["c"]["default_optimizer"]["moments"]
    assert all(float(value["step"]) == 0 for value in step.values())
    assert learner.config_for_module("c").lr == make_config().lr


def test_overrides_and_who_trains() -> None:
    learner = make_learner(module_ids=("a", "b"))
    learner.add_module(
        module_id="c", module_spec=SPEC, config_overrides={"lr": 0.5}, new_should_module_be_updated=["c"]
    )
    before = weights(learner)
    results = learner.update_from_batch({m: make_columns(8) for m in ("a", "b", "c")})
    assert {name.split("/")[0] for name in differ(before, weights(learner))} == {"c"}
    assert results["c"]["default_optimizer_learning_rate"] == 0.5


def test_errors_leave_everything_as_it_was() -> None:
    learner = make_learner(module_ids=("a", "b"))
    with pytest.raises(ModuleError, match="'a' exists already"):
        learner.add_module(module_id="a", module_spec=SPEC)
    with pytest.raises(ConfigError, match="learning_rate"):
        learner.add_module(module_id="c", module_spec=SPEC, config_overrides={"learning_rate": 1})
    with pytest.raises(ModuleError, match=r"no module 'x'.*'a', 'b'"):
        learner.remove_module("x")
    assert sorted(learner.module) == ["a", "b"]


def test_a_module_that_fails_on_its_way_in_leaves_no_residue() -> None:
    class Failing(PPOLearner):
        def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
            super().configure_optimizers_for_module(module_id, config)
            if module_id == "c":
                raise RuntimeError("no optimizer for 'c'")

        def replace_should_update(self, should_update: Any) -> None:
            super().replace_should_update(should_update)
            raise RuntimeError("no other rule")

    class NoModule(SingleAgentRLModuleSpec):
        def build(self) -> Any:
            return torch.nn.Linear(1, 1)

    learner = make_learner(module_ids=("a", "b"), cls=Failing)
    failing: list[tuple[dict[str, Any], str]] = [
        ({"module_id": "c", "module_spec": SPEC}, "no optimizer for 'c'"),
        ({"module_id": "d", "module_spec": SPEC, "new_should_module_be_updated": ["d"]}, "no other rule"),
        ({"module_id": "d", "module_spec": NoModule()}, "must be an RLModule, not Linear"),
        ({"module_id": "d", "module_spec": None}, "module 'd' must be a SingleAgentRLModuleSpec, not None"),
        ({"module_id": 3, "module_spec": SPEC}, "3 is no module id; give a string"),
        ({"module_id": "", "module_spec": SPEC}, "'' is no module id; give a string"),
        ({"module_id": "__all_modules__", "module_spec": SPEC}, "stands for all modules"),
    ]
    for arguments, message in failing:
        with pytest.raises((ModuleError, RuntimeError), match=message):
            learner.add_module(**arguments, config_overrides={"lr": 0.5})
        assert list(learner.module) == list(learner.coefficients) == ["a", "b"]
        assert [module_id for module_id, _ in learner.optimizers.slots] == ["a", "b"]
        assert (learner.config_overrides, learner._module_configs, learner.should_update) == ({}, {}, None)


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ("ab", ConfigError, r"policies_to_train='ab' is not allowed; it takes a list"),
        (5, ConfigError, "policies_to_train=5 is not allowed"),
        ([1], ConfigError, r"policies_to_train=\[1\] is not allowed"),
        (["nope"], ModuleError, r"names \['nope'\], but the modules are \['a', 'b'"),
    ],
)
def test_what_trains_are_modules_or_a_function(rule: Any, error: type[Exception], message: str) -> None:
    learner = make_learner(module_ids=("a", "b"))
    with pytest.raises(error, match=message):
        learner.replace_should_update(rule)
    with pytest.raises(error, match=message):
        learner.add_module(module_id="c", module_spec=SPEC, new_should_module_be_updated=rule)
    assert (list(learner.module), learner.should_update) == (["a", "b"], None)


def test_a_rule_that_can_be_read_once_holds_for_good() -> None:
    learner = make_learner(module_ids=("a", "b"))
    named = ["a"]
    learner.replace_should_update(module_id for module_id in named)
    named.append("b")
    for _ in range(2):
        assert "b" not in learner.update_from_batch({m: make_columns(8) for m in ("a", "b")})
    learner.add_module(module_id="c", module_spec=SPEC, new_should_module_be_updated=(m for m in ("b", "c")))
    for _ in range(2):
        assert [m for m in learner.module if learner.should_module_be_updated(m)] == ["b", "c"]


@pytest.mark.parametrize(
    ("name", "value", "setter"),
    [("train_batch_size", 10, "training"), ("nan_policy", "raise", "training"), ("num_learners", 2, "resources")],
)
def test_what_holds_for_the_whole_learner_is_no_modules_own(name: str, value: Any, setter: str) -> None:
    learner = make_learner(module_ids=("a", "b"))
    message = rf"config_overrides of module 'c': '{name}' is the same for all modules; set it by {setter}\(\)"
    with pytest.raises(ConfigError, match=message):
        learner.add_module(module_id="c", module_spec=SPEC, config_overrides={name: value})
    assert sorted(learner.module) == ["a", "b"]


def test_a_module_that_comes_again_has_what_the_config_says_of_it() -> None:
    settings = {"b": {"lr": 0.25, "clip_param": 0.1}}
    config = make_config().multi_agent(policies=["a", "b"], algorithm_config_overrides_per_module=settings)
    learner = make_learner(config, module_ids=("a", "b"))
    learner.remove_module("b")
    learner.add_module(module_id="b", module_spec=SPEC, config_overrides={"clip_param": 0.3})
    own = learner.config_for_module("b")
    assert (own.lr, own.clip_param) == (0.25, 0.3)
    assert learner.get_optimizer("b").param_groups[0]["lr"] == 0.25
    assert learner.config_overrides["b"] == {"lr": 0.25, "clip_param": 0.3}


class SharedEncoder(MultiAgentRLModule):
    """Both modules see through one encoder."""

    def setup(self) -> None:
        self["b"].encoder = self["a"].encoder


def shared_learner(**training: Any) -> Any:
    spec = MultiAgentRLModuleSpec(marl_module_class=SharedEncoder, module_specs={"a": SPEC, "b": SPEC})
    learner = PPOLearner(config=make_config(**training).multi_agent(policies={"a", "b"}), module_spec=spec)
    learner.build()
    return learner


def test_a_shared_encoder_is_stepped_once_by_the_sum_of_gradients() -> None:
    learner = shared_learner(optimizer="sgd", lr=0.1, grad_clip=None)
    shared = dict(learner.module["a"].encoder.named_parameters())
    owned = [ref for slot in learner.optimizers.slots.values() for ref in slot.refs]
    assert len(owned) == len(set(owned)) == len(list(learner.module.parameters()))
    before = {name: p.detach().clone() for name, p in shared.items()}
    batch = {"a": make_columns(8, 1), "b": make_columns(8, 2)}
    tensors = {m: {n: torch.as_tensor(v) for n, v in c.items()} for m, c in batch.items()}
    expected = {name: torch.zeros_like(p) for name, p in shared.items()}
    for module_id in ("a", "b"):
        learner.step = type(learner.step)((module_id,))
        out = learner.module.forward_train({module_id: tensors[module_id]})
        loss = learner.compute_loss(fwd_out=out, batch={module_id: tensors[module_id]})
        found = torch.autograd.grad(loss[module_id], list(shared.values()))
        expected = {name: e + g for (name, e), g in zip(expected.items(), found, strict=True)}
    learner.metrics.collect()
    learner.update_from_batch(batch)
    for name, p in learner.module["a"].encoder.named_parameters():
        torch.testing.assert_close(p, before[name] - 0.1 * expected[name], rtol=1e-5, atol=1e-6)


def test_a_shared_encoder_is_saved_once_and_restored() -> None:
    learner, other = shared_learner(), shared_learner()
    learner.update_from_batch({"a": make_columns(8), "b": make_columns(8)})
    state = learner.get_module_state()
    assert not any(name.startswith("encoder") for name in state["b"])
    other.set_state(learner.get_state())
    assert_same(weights(learner), weights(other))
    assert other.module["a"].encoder is other.module["b"].encoder


def test_a_module_that_owns_what_others_share_keeps_all_of_its_optimizers() -> None:
    class SharedLast(MultiAgentRLModule):
        def setup(self) -> None:
            name = [name for name, _ in self["a"].named_children()][-1]  # Its optimizer comes after a's own.
            setattr(self["b"], name, getattr(self["a"], name))

    spec = MultiAgentRLModuleSpec(marl_module_class=SharedLast, module_specs={"a": SPEC, "b": SPEC})
    learner = PPOLearner(config=make_config().multi_agent(policies={"a", "b"}), module_spec=spec)
    learner.build()
    before = list(learner.optimizers.slots)
    with pytest.raises(OptimizerError, match="that other modules share"):
        learner.remove_module("a")
    assert list(learner.optimizers.slots) == before
    assert "a" in learner.update_from_batch({"a": make_columns(8)})


def test_a_failed_update_puts_the_target_of_a_module_without_optimizers_back() -> None:
    class SameLayers(MultiAgentRLModule):
        def setup(self) -> None:
            for name, child in self["a"].named_children():
                setattr(self["b"], name, child)
            self["b"].target = torch.nn.Parameter(torch.zeros(2), requires_grad=False)

    class Failing(PPOLearner):
        def after_gradient_step_for_module(self, *, module_id: str, config: Any) -> None:
            target: Any = self.module["b"].target
            target.add_(1.0)

        def after_gradient_based_update(self, *, timesteps: Any) -> None:
            raise RuntimeError(f"the target was {self.module['b'].target.tolist()}")

    spec = MultiAgentRLModuleSpec(marl_module_class=SameLayers, module_specs={"a": SPEC, "b": SPEC})
    learner = Failing(config=make_config().multi_agent(policies={"a", "b"}), module_spec=spec)
    learner.build()
    assert {module_id for module_id, _ in learner.optimizers.slots} == {"a"}
    with pytest.raises(RuntimeError, match=r"the target was \[1.0, 1.0\]"):
        learner.update_from_batch({"b": make_columns(8)})
    assert learner.module["b"].target.tolist() == [0.0, 0.0]


def test_layers_that_no_module_contains_are_trained_under_all_modules() -> None:
    class Critic(MultiAgentRLModule):
        def setup(self) -> None:
            self.critic = torch.nn.Linear(4, 1)

        def forward_train(self, batch: Any) -> Any:
            outputs = super().forward_train(batch)
            return {m: {**out, "vf_preds": self.critic(batch[m]["obs"]).squeeze(-1)} for m, out in outputs.items()}

    spec = MultiAgentRLModuleSpec(marl_module_class=Critic, module_specs={"a": SPEC, "b": SPEC})
    learner = PPOLearner(config=make_config().multi_agent(policies={"a", "b"}), module_spec=spec)
    learner.build()
    before = learner.module.critic.weight.detach().clone()
    learner.update_from_batch({"a": make_columns(8), "b": make_columns(8)})
    assert not torch.equal(before, learner.module.critic.weight)
    np.testing.assert_array_equal(
        learner.get_module_state()["__all_modules__"]["critic.weight"], learner.module.critic.weight.detach().numpy()
    )


def test_a_shared_encoder_steps_whichever_of_its_users_has_rows() -> None:
    both = {m: make_columns(8, seed) for seed, m in enumerate(("a", "b"))}
    for first in ("a", "b"):
        learner = shared_learner()
        learner.update_from_batch(both)  # So that every optimizer has momentum.
        before = weights(learner)
        learner.update_from_batch({first: make_columns(8, 5)})
        changed = differ(before, weights(learner))
        other = "b" if first == "a" else "a"
        assert {name for name in changed if name.startswith("a/encoder")}
        assert {name for name in changed if name.startswith(f"{first}/") and "encoder" not in name}
        assert not {name for name in changed if name.startswith(f"{other}/") and not name.startswith("a/encoder")}
    learner = shared_learner(optimizer="sgd", lr=0.1, grad_clip=None)
    users = {key: slot.users for key, slot in learner.optimizers.slots.items()}
    own = {("a", "default_optimizer"): {"a"}, ("b", "default_optimizer"): {"b"}}
    assert users == {("a", "shared"): {"a", "b"}, **own}
    learner.update_from_batch({"b": make_columns(8, 5)})
    assert "shared_learning_rate" in learner.results["a"]


def test_a_frozen_user_of_a_shared_encoder_keeps_its_own_layers() -> None:
    learner = shared_learner()
    learner.replace_should_update(["b"])
    before = weights(learner)
    learner.update_from_batch({m: make_columns(8, seed) for seed, m in enumerate(("a", "b"))})
    changed = differ(before, weights(learner))
    assert all(name.startswith(("b/", "a/encoder")) for name in changed)
    assert any(name.startswith("a/encoder") for name in changed)


def test_schedules_go_on_without_a_module_that_was_removed() -> None:
    learner = make_learner(make_config(entropy_coeff=[[0, 0.1], [10, 0.0]]), module_ids=("a", "b"))
    learner.remove_module("b")
    learner.update_from_batch({"a": make_columns(8)}, timesteps={"num_env_steps_sampled_lifetime": 5})
    assert float(learner.coefficients["a"]["entropy_coeff"]) == pytest.approx(0.05)
