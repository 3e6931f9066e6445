"""Seeds, the sampler's own random numbers, and its state."""

from typing import Any

import numpy as np
import pytest
import torch

from unison import SingleAgentRLModuleSpec
from unison.errors import StateError
from unison.modules import ActorCritic
from unison.sampling.seeding import Seeds


def test_every_environment_of_a_run_has_a_seed_of_its_own() -> None:
    samplers = [Seeds(3, worker_index, False) for worker_index in range(4)] + [Seeds(3, 0, True)]
    for _ in range(3):
        seeds = [seed for sampler in samplers for seed in sampler.for_environments(8)]
        assert len(set(seeds)) == 40
        assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
    draws = [torch.rand(1, generator=sampler.torch_generator).item() for sampler in samplers]
    assert len(set(draws)) == 5
    assert Seeds(3, 2, False).for_environments(8) == Seeds(3, 2, False).for_environments(8)
    assert Seeds(3, 2, False).for_environments(8) != Seeds(4, 2, False).for_environments(8)
    assert Seeds(None, 0, False).for_environments(8) != Seeds(None, 0, False).for_environments(8)


@pytest.mark.parametrize("random_actions", [False, True])
@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_samples_are_reproducible_whatever_the_global_random_numbers(
    mode: str, random_actions: bool, make_runner: Any, assert_same: Any
) -> None:
    samples: list[Any] = []
    weights = None
    for global_seed in (1, 2):
        runner = make_runner("CartPole-v1", vectorization=mode, seed=5)
        weights = weights or runner.modules.get_state()
        runner.set_weights(weights)
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        states = torch.get_rng_state(), np.random.get_state()[1].tolist()
        samples.append(runner.sample(num_timesteps=200, random_actions=random_actions))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.random.get_state()[1].tolist() == states[1]
    assert_same(*samples)
    other = make_runner("CartPole-v1", vectorization=mode, seed=5, worker_index=1)
    other.set_weights(weights)
    assert not np.array_equal(other.sample(num_timesteps=3)[0].get_observations(0), samples[0][0].get_observations(0))


class Noisy(ActorCritic):
    """Explores by noise that it draws from torch's global generator."""

    def forward_exploration(self, batch: Any) -> Any:
        outputs = self.forward_inference(batch)
        return {**outputs, "action_dist_inputs": outputs["action_dist_inputs"] + torch.randn(2)}


def test_what_modules_draw_as_they_act_goes_by_the_seed_and_the_state(make_runner: Any) -> None:
    def logits(runner: Any) -> Any:
        sample = runner.sample(num_timesteps=21)
        return np.concatenate([episode.get_extra_model_outputs("action_dist_inputs") for episode in sample])

    spec = SingleAgentRLModuleSpec(module_class=Noisy)
    first, second = (make_runner("CartPole-v1", seed=5, rl_module_spec=spec) for _ in range(2))
    second.set_weights(first.modules.get_state())
    drawn: list[Any] = []
    for runner, global_seed in ((first, 1), (second, 2)):
        torch.manual_seed(global_seed)
        drawn.append(logits(runner))
        runner.reset_environments()
    np.testing.assert_array_equal(*drawn)
    logits(second)
    second.set_state(first.get_state())
    expected = logits(first)
    np.testing.assert_array_equal(logits(second), expected)
    assert not np.isin(expected, drawn[0]).any()


def test_making_a_runner_leaves_global_random_numbers_alone(make_runner: Any) -> None:
    before = torch.get_rng_state()
    make_runner("CartPole-v1")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", ["sync", "async", "vector_entry_point"])
def test_a_restored_runner_goes_on_as_the_saved_one(mode: str, make_runner: Any, assert_same: Any) -> None:
    settings = {"vectorization": mode, "envs": 2, "normalize_rewards": True}
    saved = make_runner("CartPole-v1", seed=1, **settings)
    saved.sample(num_timesteps=151)
    saved.set_weights(saved.modules.get_state(), version=9)
    saved.reset_environments()
    state = saved.get_state()
    expected = [*saved.sample(num_timesteps=99), *saved.sample(num_timesteps=50)]
    restored = make_runner("CartPole-v1", seed=2, **settings)
    restored.sample(num_timesteps=77)
    restored.set_weights(saved.modules.get_state())
    restored.set_state(state)
    assert_same([*restored.sample(num_timesteps=99), *restored.sample(num_timesteps=50)], expected)
    assert restored.get_metrics() == saved.get_metrics()
    with pytest.raises(StateError, match="lacks"):
        restored.set_state({"seeds": {}})


def test_state_survives_a_checkpoint(make_runner: Any, tmp_path: Any, assert_same: Any) -> None:
    from unison.checkpoint import read_checkpoint, write_checkpoint

    runner = make_runner("CartPole-v1", normalize_rewards=True)
    runner.sample(num_timesteps=100)
    runner.reset_environments()
    write_checkpoint(tmp_path / "c", {"env_runner": runner.get_state()}, {})
    twin = make_runner("CartPole-v1", normalize_rewards=True, seed=3)
    twin.set_weights(runner.modules.get_state())
    twin.set_state(read_checkpoint(tmp_path / "c").parts["env_runner"])
    assert_same(twin.sample(num_timesteps=100), runner.sample(num_timesteps=100))


def test_weights(make_runner: Any) -> None:
    runner, other = make_runner("CartPole-v1"), make_runner("CartPole-v1")
    runner.set_weights({**other.modules.get_state(), "another_module": {"x": np.zeros(1)}})
    ours, theirs = (r.modules.get_state()["default_policy"] for r in (runner, other))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert runner.weights_version == 1
    with pytest.raises(StateError, match="are for \\['p1'\\], but 'default_policy' acts here"):
        runner.set_weights({"p1": {}})


def test_the_given_module_is_copied(make_runner: Any) -> None:
    module = make_runner("CartPole-v1").modules["default_policy"].requires_grad_(True).train()
    runner = make_runner("CartPole-v1", module=module)
    assert runner.modules["default_policy"] is not module
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    for ours, theirs in zip(runner.modules.parameters(), module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
