"""SAC's learner: four optimizers, each on its own loss; targets; temperature."""

import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from support.sac import BOX, CHOICE, OBS, SACCase, sac_batch, sac_config
from unison import SingleAgentRLModuleSpec
from unison.algorithms import SACLearner, SACModule
from unison.algorithms.sac.learner import NEXT_NOISE, NOISE
from unison.errors import BatchError, ConfigError, ModuleError, SpaceError

M = "default_policy"


def make(actions: gym.Space[Any] = BOX, **training: Any) -> SACLearner:
    return sac_config(**training).build_learner(spaces={M: (OBS, actions)})


def weights(learner: SACLearner) -> dict[str, Any]:
    return learner.get_module_state()[M]


def noise(rows: int, seed: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(rows, 2)).astype(np.float32) for name in (NOISE, NEXT_NOISE)}


def references(module: SACModule, batch: dict[str, Any], gamma: float, discrete: bool) -> dict[str, Any]:
    """The gradients of the three losses by optimizer, each differentiated alone, in float64, from the papers."""
    module = copy.deepcopy(module).double().requires_grad_(True)
    columns = {n: torch.as_tensor(c).double() if c.dtype.kind == "f" else torch.as_tensor(c) for n, c in batch.items()}
    alpha = module.log_alpha.exp()

    def act(obs: Any, eps: Any) -> tuple[Any, Any]:
        out = module.forward_inference({"obs": obs})["action_dist_inputs"]
        if discrete:
            return None, torch.log_softmax(out, -1)
        normal = torch.distributions.Normal(out[:, :2], out[:, 2:].exp())
        raw = out[:, :2] + out[:, 2:].exp() * eps
        return raw.tanh(), (normal.log_prob(raw) - torch.log(1 - raw.tanh() ** 2)).sum(-1)

    def soft(critics: Any, obs: Any, eps: Any) -> tuple[Any, Any]:
        actions, logp = act(obs, eps)
        least = torch.minimum(*[critic(obs, actions) for critic in critics])
        if not discrete:
            return least - alpha * logp, logp
        p = logp.exp()
        return (p * (least - alpha * logp)).sum(-1), (p * logp).sum(-1)

    obs, following = columns["obs"], columns["new_obs"]
    future, _ = soft(module.target_critics, following, columns.get(NEXT_NOISE))
    target = (columns["rewards"] + gamma * (~columns["terminateds"]) * future).detach()
    found: dict[str, Any] = {}
    for name, critic in zip(("critic_1", "critic_2"), module.critics, strict=True):
        q = critic(obs, columns["actions"])
        q = q.gather(1, columns["actions"][:, None])[:, 0] if discrete else q
        found[name] = torch.autograd.grad(0.5 * ((q - target) ** 2).mean(), list(critic.parameters()))
    value, logp = soft(module.critics, obs, columns.get(NOISE))
    policy = [*module.encoder.parameters(), *module.policy_head.parameters()]
    found["actor"] = torch.autograd.grad(-value.mean(), policy, retain_graph=True)
    goal = 0.98 * math.log(3) if discrete else -2.0
    found["alpha"] = torch.autograd.grad(-alpha * (logp.detach() + goal).mean(), [module.log_alpha])
    return found


@pytest.mark.parametrize("discrete", [False, True])
def test_each_optimizer_gets_the_gradient_of_its_own_loss(discrete: bool) -> None:
    actions = CHOICE if discrete else BOX
    learner = make(actions, optimizer="sgd")
    batch = sac_batch(8, 1, actions) | ({} if discrete else noise(8))
    module = learner.module[M]
    with torch.no_grad():
        for p in module.target_critics.parameters():
            p.add_(0.05 * torch.randn_like(p))
    expected = references(module, batch, 0.99, discrete)
    before = {name: [p.detach().clone() for p in _params(learner, name)] for name in expected}
    learner.update_from_batch(batch)
    for name, gradients in expected.items():
        for old, new, gradient in zip(before[name], _params(learner, name), gradients, strict=True):
            torch.testing.assert_close((old - new.detach()) / 1e-2, gradient.float(), rtol=2e-3, atol=2e-5, msg=name)


def _params(learner: SACLearner, name: str) -> list[Any]:
    return [p for group in learner.get_optimizer(M, name).param_groups for p in group["params"]]


def test_there_are_four_optimizers_with_rates_of_their_own() -> None:
    learner = make(actor_lr=1e-4, critic_lr=2e-4, alpha_lr=[[0, 1e-3], [100, 0.0]])
    optimizers = dict(learner.get_optimizers_for_module(M))
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.items()}
    assert rates == {"actor": 1e-4, "critic_1": 2e-4, "critic_2": 2e-4, "alpha": 1e-3}
    owned = {id(p) for optimizer in optimizers.values() for group in optimizer.param_groups for p in group["params"]}
    assert owned == {id(p) for p in learner.get_parameters(learner.module[M])}
    results = learner.update_from_batch(sac_batch(50, 0), timesteps={"num_env_steps_sampled_lifetime": 50})
    assert learner.get_optimizer(M, "alpha").param_groups[0]["lr"] == pytest.approx(5e-4)
    assert {"critic_loss", "policy_loss", "alpha_loss", "alpha", "entropy"} <= results[M].keys()


def test_only_what_has_a_rate_moves() -> None:
    learner = make(actor_lr=0.0, critic_lr=1e-2, alpha_lr=0.0)
    before = weights(learner)
    learner.update_from_batch(sac_batch(8, 0))
    moved = {name.split(".")[0] for name, value in weights(learner).items() if not np.array_equal(before[name], value)}
    assert moved == {"critics", "target_critics"}


def test_targets_start_as_copies_and_follow_by_tau() -> None:
    learner = make(tau=0.1)
    before = weights(learner)
    for name, value in before.items():
        if name.startswith("critics."):
            np.testing.assert_array_equal(before[f"target_{name}"], value)
    learner.update_from_batch(sac_batch(8, 0))
    after = weights(learner)
    for name, value in after.items():
        if name.startswith("critics."):
            expected = 0.9 * before[f"target_{name}"] + 0.1 * value
            np.testing.assert_allclose(after[f"target_{name}"], expected, rtol=1e-5, atol=1e-7)


def test_the_two_critics_begin_apart() -> None:
    state = weights(make())
    assert not np.array_equal(state["critics.0.head.weight"], state["critics.1.head.weight"])


def test_the_temperature_starts_as_set_and_a_loaded_one_stays() -> None:
    assert float(weights(make(initial_alpha=0.2))["log_alpha"]) == pytest.approx(math.log(0.2))
    trained = make(initial_alpha=0.2)
    trained.update_from_batch(sac_batch(8, 0))
    value = float(trained.module[M].log_alpha.detach())
    other = SACLearner(config=sac_config(initial_alpha=0.7), module=copy.deepcopy(trained.module))
    other.build()
    assert float(other.module[M].log_alpha.detach()) == value


def test_truncated_episodes_keep_their_future() -> None:
    learner = make(critic_lr=0.0, actor_lr=0.0, alpha_lr=0.0, replay_prioritized=True, gamma=0.5)
    batch = sac_batch(8, 0) | noise(8)
    ends = {
        end: learner.update_from_batch(batch | {"terminateds": np.full(8, bool(end))})[M]["td_errors"] for end in (0, 1)
    }
    module = learner.module[M]
    with torch.no_grad():
        qs = module.values(torch.as_tensor(batch["obs"]), torch.as_tensor(batch["actions"]))
    terminal = (qs - torch.as_tensor(batch["rewards"])).abs().mean(0)
    np.testing.assert_allclose(ends[1], terminal, rtol=1e-4, atol=1e-5)
    assert np.abs(ends[0] - ends[1]).max() > 1e-3


def test_a_failed_update_leaves_no_trace() -> None:
    learner = make(nan_policy="raise")
    learner.update_from_batch(sac_batch(8, 0))
    before, generator = weights(learner), learner.generator.get_state()
    with pytest.raises(ArithmeticError):
        learner.update_from_batch(sac_batch(8, 1) | {"rewards": np.full(8, np.nan, np.float32)})
    for name, value in weights(learner).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert torch.equal(generator, learner.generator.get_state())


def test_modules_learn_as_if_each_were_alone() -> None:
    case = SACCase(modules=("a", "b"), optimizer="sgd")
    learner = case.learner("eager")
    batch = {m: sac_batch(8, i) | noise(8, i) for i, m in enumerate("ab")}
    alone = SACCase(modules=("a",), optimizer="sgd").learner("eager")
    alone.set_module_state({"a": learner.get_module_state()["a"]})
    learner.update_from_batch(batch)
    alone.update_from_batch({"a": batch["a"]})
    ours = learner.get_module_state()["a"]
    for name, value in alone.get_module_state()["a"].items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-7, err_msg=name)


def test_mistakes_are_named() -> None:
    with pytest.raises(SpaceError, match=r"SAC takes Box and Discrete actions, not MultiBinary"):
        make(gym.spaces.MultiBinary(3))
    with pytest.raises(SpaceError, match="unbounded"):
        make(gym.spaces.Box(-np.inf, np.inf, (2,)))
    with pytest.raises(BatchError, match="new_obs"):
        make().update_from_batch({n: c for n, c in sac_batch(8, 0).items() if n != "new_obs"})
    with pytest.raises(ConfigError, match="updates_per_step"):
        sac_config().training(num_epochs=3)
    with pytest.raises(ConfigError, match="no memory"):
        sac_config().rl_module(model_config={"lstm_size": 8})
    with pytest.raises(ConfigError, match="the same for all modules"):
        sac_config().multi_agent(algorithm_config_overrides_per_module={M: {"replay_capacity": 3}})
    from unison.modules.actor_critic import ActorCritic

    spec = SingleAgentRLModuleSpec(module_class=ActorCritic)
    with pytest.raises(ModuleError, match="SAC trains a SACModule"):
        sac_config().rl_module(rl_module_spec=spec).build_learner(spaces={M: (OBS, CHOICE)})


BAD_COLUMNS: dict[str, tuple[str, Any, str]] = {
    "floats": ("terminateds", np.full(8, 0.5, np.float32), r"has dtype torch.float32; give booleans"),
    "integers": ("terminateds", np.zeros(8, np.int64), r"has dtype torch.int64; give booleans"),
    "two axes": ("terminateds", np.zeros((8, 1), bool), r"has shape \(8, 1\); give one entry a row, shape \(8,\)"),
    "nested": ("terminateds", {"all": np.zeros(8, bool)}, "is nested; give one array"),
    "mask of numbers": ("loss_mask", np.ones(8, np.float32), "has dtype torch.float32; give booleans"),
    "rewards with two axes": ("rewards", np.zeros((8, 1), np.float32), r"has shape \(8, 1\)"),
    "integer rewards": ("rewards", np.zeros(8, np.int64), "has dtype torch.int64; give floats"),
    "weights with two axes": ("weights", np.ones((8, 1), np.float32), r"has shape \(8, 1\)"),
    "steps with two axes": ("n_steps", np.ones((8, 1), np.float32), r"has shape \(8, 1\)"),
}


@pytest.mark.parametrize("actions", [BOX, CHOICE], ids=["box", "discrete"])
@pytest.mark.parametrize("fault", BAD_COLUMNS)
def test_columns_that_no_loss_can_use_are_named_and_change_nothing(fault: str, actions: gym.Space[Any]) -> None:
    name, column, message = BAD_COLUMNS[fault]
    learner = make(actions)
    before, generator = weights(learner), learner.generator.get_state().clone()
    with pytest.raises(BatchError, match=f"Module '{M}': column '{name}' {message}"):
        learner.update_from_batch(sac_batch(8, 0, actions) | {name: column})
    for name, value in weights(learner).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert torch.equal(generator, learner.generator.get_state())


def test_actions_of_the_environments_scale_are_refused() -> None:
    learner, batch = make(gym.spaces.Box(-40.0, 40.0, (2,))), sac_batch(8, 0)
    before = weights(learner)
    batch["actions"][5, 1] = -31.25
    with pytest.raises(BatchError, match=rf"Module '{M}': column 'actions' holds -31.25 in row 5; .* in \[-1, 1\]"):
        learner.update_from_batch(batch)
    for name, value in weights(learner).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    learner.update_from_batch(batch | {"loss_mask": np.arange(8) != 5})
    batch["actions"][5, 1] = -1.4  # noise that was added
    learner.update_from_batch(batch)


def test_actions_may_lie_within_bounds_that_sampling_does_not_scale_to() -> None:
    config = sac_config().env_runners(normalize_actions=False)
    learner, batch = config.build_learner(spaces={M: (OBS, BOX)}), sac_batch(8, 0)
    learner.update_from_batch(batch | {"actions": batch["actions"] * 2})
    with pytest.raises(BatchError, match="column 'actions' holds"):
        learner.update_from_batch(batch | {"actions": batch["actions"] * 20})


def test_columns_of_ones_own_are_no_random_numbers() -> None:
    """Whatever they are called; and the losses of one's own find them as they were."""
    seen: dict[str, Any] = {}

    class Curious(SACLearner):
        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            seen.update({name: batch[name] for name in own})
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

    own = {name: np.full((8, 3), 7.0, np.float32) for name in ("noise", "next_noise", "row")}
    first, second = make(replay_prioritized=True), make(replay_prioritized=True, learner_class=Curious)
    first.update_from_batch(sac_batch(8, 0))
    second.update_from_batch(sac_batch(8, 0) | own)
    for name, value in weights(first).items():
        np.testing.assert_array_equal(weights(second)[name], value, err_msg=name)
    assert all((column == 7.0).all() for column in seen.values())


def test_dict_observations_and_action_masks() -> None:
    space = gym.spaces.Dict({"place": OBS, "action_mask": gym.spaces.MultiBinary(3)})
    learner = sac_config().build_learner(spaces={M: (space, CHOICE)})
    batch = sac_batch(8, 0, CHOICE)
    for name in ("obs", "new_obs"):
        batch[name] = {"place": batch[name], "action_mask": np.tile(np.array([1, 1, 0], np.int8), (8, 1))}
    batch["actions"] = np.minimum(batch["actions"], 1)
    results = learner.update_from_batch(batch)[M]
    assert all(np.isfinite(value) for value in results.values() if isinstance(value, float))
    assert results["entropy"] <= math.log(2) + 1e-5


def test_two_actions_may_be_booleans() -> None:
    first, second = (make(gym.spaces.Discrete(2)) for _ in range(2))
    batch = sac_batch(8, 1, CHOICE)
    chosen = batch["actions"] > 0
    first.update_from_batch(batch | {"actions": chosen.astype(np.int64)})
    second.update_from_batch(batch | {"actions": chosen})
    for name, value in weights(first).items():
        np.testing.assert_array_equal(weights(second)[name], value, err_msg=name)


@pytest.mark.parametrize("actions", [BOX, CHOICE], ids=["box", "discrete"])
def test_rows_that_are_masked_out_do_not_count(actions: gym.Space[Any]) -> None:
    model = {"hidden_sizes": (16, 16), "normalize_observations": True}
    config = sac_config().rl_module(model_config=model)
    alone, padded = (config.build_learner(spaces={M: (OBS, actions)}) for _ in range(2))
    batch = sac_batch(12, 1, actions) | ({} if actions is CHOICE else noise(12))
    results = alone.update_from_batch({name: column[:8] for name, column in batch.items()})
    others = padded.update_from_batch(batch | {"loss_mask": np.arange(12) < 8})
    for name, value in weights(alone).items():
        np.testing.assert_allclose(weights(padded)[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    for name, value in results[M].items():
        assert others[M][name] == pytest.approx(value, rel=1e-4), name
