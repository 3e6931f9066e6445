"""PettingZoo's and MPE2's environments as they are: named, masked, of unequal spaces, and in other processes."""

import sys
from typing import Any

import numpy as np
import pytest
from mpe2 import simple_spread_v3, simple_tag_v3
from pettingzoo.classic.tictactoe import tictactoe

from unison import PPOConfig, SingleAgentRLModuleSpec
from unison.config import make_environment, make_module_spec
from unison.errors import ConfigError, EnvironmentFailure, MissingExtraError
from unison.modules.random_module import RandomModule
from unison.sampling import MultiAgentEnvRunner, make_runner


def config_for(env: Any, **env_config: Any) -> PPOConfig:
    config = PPOConfig().environment(env, env_config=env_config).debugging(seed=0).framework(engine="eager")
    return config.rl_module(model_config={"hidden_sizes": (8,)}).training(train_batch_size=60, minibatch_size=30)


@pytest.mark.parametrize("env", ["classic/connect_four-v3", "classic/tictactoe-v3", tictactoe.env])
def test_board_games_take_legal_moves_only(env: Any) -> None:
    runner = MultiAgentEnvRunner(config_for(env).env_runners(num_envs_per_env_runner=3))
    for random_actions in (False, True):
        episodes = runner.sample(num_episodes=6, random_actions=random_actions)
        for episode in episodes:
            first, second = episode.agent_episodes.values()
            assert first.get_return() + second.get_return() == 0  # An illegal move would cost only its player.
            assert first.is_terminated
            assert second.is_terminated
            assert len(first) - len(second) in (0, 1)
            for part in (first, second):
                masks = part.get_observations()["action_mask"][:-1]
                assert masks[np.arange(len(part)), part.get_actions()].all()
    assert runner.get_metrics()["num_episodes"] == 12


def test_a_random_player_keeps_to_the_mask() -> None:
    config = config_for("classic/tictactoe-v3").multi_agent(
        policies={"player_1": SingleAgentRLModuleSpec(RandomModule), "player_2": None}
    )
    (episode,) = MultiAgentEnvRunner(config).sample(num_episodes=1)
    assert episode.get_return() == 0


def test_modules_get_the_spaces_of_their_agents() -> None:
    config = config_for(simple_tag_v3).multi_agent(
        policies=["hunters", "prey"], policy_mapping_fn=lambda agent, _: "prey" if agent == "agent_0" else "hunters"
    )
    specs = make_module_spec(config).module_specs
    assert {m: spec.observation_space.shape for m, spec in specs.items()} == {"hunters": (16,), "prey": (14,)}
    algorithm = config.build()
    results = algorithm.train()
    assert results["learners"]["hunters"]["num_module_steps_trained"] == 3 * 60 * 10
    assert set(results["env_runners"]["agent_return_mean"]) == {"adversary_0", "adversary_1", "adversary_2", "agent_0"}
    algorithm.stop()
    with pytest.raises(ConfigError, match=r"Module 'everyone' acts for agent 'adversary_0' .*'agent_0'"):
        make_module_spec(config_for(simple_tag_v3).multi_agent(policies=["everyone"]))


def test_turns_and_parallel_steps_of_one_game_pay_alike() -> None:
    """simple_spread in both of its forms: the same seeds and actions give the same returns."""
    returns = []
    for env in (simple_spread_v3.parallel_env, simple_spread_v3.env):
        config = config_for(env, max_cycles=6).multi_agent(policies={"all": SingleAgentRLModuleSpec(Still)})
        found = MultiAgentEnvRunner(config, evaluation=True).evaluate(2)
        returns.append(found["agent_return_mean"])
        assert found["episode_len_mean"] == (6 if env is simple_spread_v3.parallel_env else 18)
    assert returns[0] == pytest.approx(returns[1])


class Still(RandomModule):
    """Never moves."""

    def forward_inference(self, batch: Any) -> Any:
        return {"actions": super().forward_inference(batch)["actions"] * 0}


def test_names_and_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_for(simple_spread_v3).env == "mpe2.simple_spread_v3:parallel_env"
    assert PPOConfig.from_dict(config_for(simple_spread_v3).to_dict()).is_multi_agent
    assert make_environment("classic/connect_four-v3").possible_agents == ["player_0", "player_1"]
    assert not config_for("CartPole-v1").is_multi_agent
    with pytest.raises(ConfigError, match="makes no environments"):
        config_for(sys)
    with pytest.raises(ConfigError, match="classic/chess-v99"):
        make_environment("classic/chess-v99")
    with pytest.raises(EnvironmentFailure, match="sizes"):
        make_environment("classic/connect_four-v3", {"sizes": 3})
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    with pytest.raises(MissingExtraError, match=r"unison\[multiagent\]"):
        make_environment("classic/connect_four-v3")
    with pytest.raises(ConfigError, match="knows no environment"):
        make_environment("NoSuch-v0")


def test_runners_in_processes_sample_evaluate_and_follow_the_modules() -> None:
    config = config_for("classic/tictactoe-v3").multi_agent(policies=["main"]).resources(num_env_runners=2)
    runner = make_runner(config)
    try:
        spec = make_module_spec(config).module_specs["main"]
        episodes = runner.sample(num_timesteps=50)
        assert sum(len(e) for e in episodes) == 50
        runner.add_module(module_id="rival", module_spec=spec)
        runner.set_policy_mapping_fn(lambda agent, episode: "rival" if agent == "player_1" else "main")
        runner.sample(num_timesteps=100)
        modules = {p.module_id for e in runner.sample(num_timesteps=100) for p in e.agent_episodes.values()}
        assert modules == {"main", "rival"}
        assert set(runner.get_metrics()["module_return_mean"]) == {"main", "rival"}
        runner.set_policy_mapping_fn(lambda agent, episode: "main")
        runner.remove_module("rival")
        assert {p.module_id for e in runner.sample(num_timesteps=60) for p in e.agent_episodes.values()} == {"main"}
        assert runner.evaluate(3)["num_episodes"] == 3
    finally:
        runner.stop()
