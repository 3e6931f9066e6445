"""Evaluation: whole episodes, so many, without favour to short ones, by the deterministic policy."""

import copy
from typing import Any

import gymnasium as gym
import pytest
import torch

from unison.config import AlgorithmConfig
from unison.errors import ConfigError
from unison.sampling import evaluate
from unison.sampling.quota import Quota
from unison.sampling.running import Finished
from unison.sampling.seeding import Seeds


def test_quota_takes_the_first_episodes_of_each_environment() -> None:
    quota = Quota(5, 2)
    short = [Finished(1, f"short{number}", 1.0, 1) for number in range(9)]
    assert not quota.would_be_met(short)
    quota.take(short)
    assert not quota.is_met
    assert quota.ids == ["short0", "short1"]
    long = [Finished(0, f"long{number}", 1.0, 1) for number in range(3)]
    assert quota.would_be_met(long)
    quota.take(long)
    assert quota.is_met
    assert len(quota.episodes) == 5


@pytest.mark.parametrize("mode", ["sync", "NextStep"])
def test_short_episodes_are_not_favoured(mode: str, make_runner: Any, counting_env: Any, counting_vector: Any) -> None:
    # The environments' tags are neighbours, so episodes last 2 in one and 20 in the other, in turn.
    settings = {"lengths": (2, 20), "ends": (0,)}
    env, extra = (counting_env, {}) if mode == "sync" else (counting_vector, {"mode": mode})
    runner = make_runner(env, settings | extra, envs=2, evaluation=True)
    results = runner.evaluate(4)
    assert results["num_episodes"] == 4
    assert results["episode_len_mean"] == 11
    assert results["num_env_steps_sampled"] == 44
    assert results["episode_return_min"] < results["episode_return_mean"] < results["episode_return_max"]
    again = runner.evaluate(1)
    assert again["num_episodes"] == 1


@pytest.mark.parametrize("number", [0, -1])
def test_no_episodes_are_no_evaluation(make_runner: Any, counting_env: Any, number: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"evaluate\(\) was asked for {number} episodes; ask for a whole number of at least 1"
    ):
        make_runner(counting_env, evaluation=True).evaluate(number)


def test_equals_acting_by_hand(make_runner: Any) -> None:
    config = AlgorithmConfig().environment("Acrobot-v1", env_config={"max_episode_steps": 60}).debugging(seed=4)
    config.evaluation(evaluation_num_envs=2, evaluation_duration=2).env_runners(normalize_rewards=True)
    module = make_runner("Acrobot-v1").modules["default_policy"]
    returns = []
    for seed in Seeds(4, 0, True).for_environments(2):
        env = gym.make("Acrobot-v1", max_episode_steps=60)
        observation, _ = env.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            with torch.no_grad():
                inputs = module.forward_inference({"obs": torch.tensor(observation)[None]})["action_dist_inputs"]
            observation, reward, terminated, truncated, _ = env.step(inputs.argmax().item())
            total, done = total + reward, terminated or truncated
        returns.append(total)
    results = evaluate(config, module)
    assert results["episode_return_mean"] == sum(returns) / 2
    assert (results["episode_return_min"], results["episode_return_max"]) == (min(returns), max(returns))


def test_evaluation_settings_apply(make_runner: Any, counting_env: Any) -> None:
    config = AlgorithmConfig().environment(counting_env, env_config={"lengths": (3,), "ends": (0,)})
    config.evaluation(evaluation_env_config={"lengths": (6,)}, evaluation_duration=3, evaluation_num_envs=2)
    module = make_runner(counting_env).modules
    assert evaluate(config, module)["episode_len_mean"] == 6
    assert evaluate(config, module)["num_episodes"] == 3
    assert evaluate(config, module, num_episodes=5)["num_episodes"] == 5


def test_it_leaves_training_alone(make_runner: Any, assert_same: Any) -> None:
    samples = []
    weights = make_runner("CartPole-v1").modules.get_state()
    for evaluates in (False, True):
        runner = make_runner("CartPole-v1", seed=3)
        runner.set_weights(weights)
        first = runner.sample(num_timesteps=50)
        if evaluates:
            evaluation = make_runner("CartPole-v1", seed=3, evaluation=True)
            evaluation.set_weights(weights)
            results = evaluation.evaluate(5)
            assert results["num_episodes"] == 5
        samples.append([*copy.copy(first), *runner.sample(num_timesteps=50)])
    assert_same(*samples)


def test_exploring_evaluation_differs_from_the_deterministic_one(make_runner: Any) -> None:
    runner = make_runner("CartPole-v1", evaluation=True, seed=3)
    state = runner.get_state()
    deterministic = [runner.evaluate(6)]
    runner.set_state(state)
    deterministic.append(runner.evaluate(6))
    runner.set_state(state)
    explored = runner.evaluate(6, explore=True)
    assert deterministic[0] == deterministic[1] != explored
