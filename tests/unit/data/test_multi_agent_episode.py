"""MultiAgentEpisode: who acts, who is paid, who ends, and chunks."""

from typing import Any

import numpy as np
import pytest

from unison.data import MultiAgentEpisode, SingleAgentEpisode
from unison.errors import BatchError, ModuleError, StateError
from unison.types import DEFAULT_MODULE_ID


def test_agents_that_act_at_each_step() -> None:
    episode = MultiAgentEpisode("e")
    episode.add_env_reset({"a": 0, "b": 10})
    episode.add_env_step({"a": 1, "b": 11}, {"a": 0, "b": 1}, {"a": 1.0, "b": 2.0})
    episode.add_env_step({"a": 2, "b": 12}, {"a": 0, "b": 1}, {"a": 3.0, "b": 4.0}, truncateds={"__all__": True})
    assert len(episode) == 2
    assert episode.is_truncated
    assert not episode.is_terminated
    assert episode.get_return() == 10.0
    a = episode.to_numpy().agent_episodes["a"]
    assert a.id_ == "e/a"
    assert a.agent_id == "a"
    assert a.module_id == DEFAULT_MODULE_ID
    assert a.get_observations().tolist() == [0, 1, 2]
    assert a.get_rewards().tolist() == [1, 3]
    assert a.is_truncated


def test_turns_add_up_rewards_until_the_next_observation() -> None:
    episode = MultiAgentEpisode("e")
    episode.add_env_reset({"a": 0})
    episode.add_env_step({"b": 10}, {"a": 0}, {"a": 1.0, "b": 0.25})
    episode.add_env_step({"a": 1}, {"b": 5}, {"a": 2.0, "b": 0.5})
    episode.add_env_step({"b": 11}, {"a": 1}, {"b": 0.125}, terminateds={"__all__": True})
    a, b = episode.agent_episodes["a"], episode.agent_episodes["b"]
    assert a.get_rewards() == [3.0, 0.0]
    assert a.get_observations() == [0, 1, 1]
    assert b.get_rewards() == [0.875]
    assert b.get_observations() == [10, 11]
    assert a.is_terminated
    assert b.is_terminated


def test_an_agent_may_end_before_the_others() -> None:
    episode = MultiAgentEpisode("e")
    episode.add_env_reset({"a": 0, "b": 0})
    episode.add_env_step({"a": 1, "b": 1}, {"a": 0, "b": 0}, {"a": 1.0, "b": 1.0}, terminateds={"a": True})
    episode.add_env_step({"b": 2}, {"b": 0}, {"b": 1.0})
    assert episode.agent_episodes["a"].is_terminated
    assert len(episode.agent_episodes["a"]) == 1
    assert not episode.agent_episodes["b"].is_done
    assert not episode.is_done
    with pytest.raises(BatchError, match=r"agent 'a' is done, .* PettingZoo forbids; give .* a new name"):
        episode.add_env_step({}, {"a": 0}, {})
    with pytest.raises(BatchError, match="agent 'c' has no observation yet"):
        episode.add_env_step({}, {"c": 0}, {})


def test_a_reward_after_the_step_closed_belongs_to_it() -> None:
    episode = MultiAgentEpisode("e")
    episode.add_env_reset({"a": 0})
    episode.add_env_step({"a": 1}, {"a": 0}, {"a": 1.0})
    episode.add_env_step({"a": 2}, {}, {"a": 5.0})
    assert episode.agent_episodes["a"].get_rewards() == [6.0]
    assert episode.agent_episodes["a"].get_observations() == [0, 2]


def test_cut_carries_open_steps_over() -> None:
    episode = MultiAgentEpisode("e")
    episode.add_env_reset({"a": 0, "b": 0})
    episode.add_env_step({"b": 1}, {"a": 7, "b": 8}, {"a": 1.0, "b": 1.0})
    chunk = episode.cut()
    assert (chunk.id_, chunk.t_started, len(chunk)) == ("e", 1, 0)
    with pytest.raises(BatchError, match="acts again"):
        chunk.add_env_step({}, {"a": 0}, {})
    chunk.add_env_step({"a": 1, "b": 2}, {"b": 9}, {"a": 2.0, "b": 1.0})
    assert chunk.agent_episodes["a"].get_actions() == [7]
    assert chunk.agent_episodes["a"].get_rewards() == [3.0]
    assert chunk.agent_episodes["b"].t_started == 1


def test_a_reward_after_the_cut_belongs_to_the_next_step() -> None:
    episode = MultiAgentEpisode("e")
    episode.add_env_reset({"a": 0, "b": 0})
    episode.add_env_step({"a": 1, "b": 1}, {"a": 7, "b": 8}, {"a": 1.0, "b": 1.0})
    chunk = episode.cut()
    chunk.add_env_step({}, {}, {"a": 5.0, "b": 2.0})
    chunk.add_env_step({"a": 2}, {"a": 7}, {"a": 0.5}, terminateds={"__all__": True})
    assert {a: part.get_rewards() for a, part in episode.agent_episodes.items()} == {"a": [1.0], "b": [1.0]}
    assert {a: part.get_rewards() for a, part in chunk.agent_episodes.items()} == {"a": [5.5], "b": []}
    assert (episode.get_return(), chunk.get_return()) == (2.0, 7.5)


def test_an_agent_that_never_acts_is_paid_in_the_return_alone() -> None:
    episode = MultiAgentEpisode("e")
    episode.add_env_reset({"a": 0, "b": 0})
    chunk = episode.cut()
    chunk.add_env_step({"b": 1}, {"b": 9}, {"a": 5.0, "b": 2.0}, terminateds={"a": True})
    assert (len(chunk.agent_episodes["a"]), chunk.get_return()) == (0, 7.0)


def test_an_episode_goes_on_from_its_state() -> None:
    def mapping(agent_id: str, episode: MultiAgentEpisode) -> str:
        return f"module_{episode.rng.integers(1000)}"

    episode = MultiAgentEpisode("e", policy_mapping_fn=mapping, seed=3)
    episode.add_env_reset({"a": np.zeros(2), "b": np.ones(2)})
    outputs = {"a": {"action_logp": -1.0}}
    episode.add_env_step({"b": np.ones(2)}, {"a": 7, "b": 8}, {"a": 1.0, "c": 4.0}, extra_model_outputs=outputs)
    twin = MultiAgentEpisode.from_state(episode.get_state(), mapping)
    assert twin.get_return() == episode.get_return() == 5.0
    assert twin.module_ids == episode.module_ids
    for each in (episode, twin):
        each.add_env_step({"a": np.full(2, 2.0), "c": np.zeros(2)}, {"b": 9}, {"a": 2.0}, infos={"c": {"new": 1}})
        each.add_env_step({}, {"c": 1}, {}, truncateds={"__all__": True})
    first, second = episode.get_state(), twin.get_state()
    assert repr(first) == repr(second)
    assert first["module_ids"]["c"] == second["module_ids"]["c"]
    assert twin.agent_episodes["a"].get_rewards() == [3.0]
    assert twin.agent_episodes["a"].get_extra_model_outputs("action_logp") == [-1.0]
    assert twin.agent_episodes["c"].get_rewards() == [4.0]
    assert (len(twin), twin.is_truncated) == (3, True)
    with pytest.raises(StateError, match=r"lacks \['pending', 'rng'\]"):
        MultiAgentEpisode.from_state({name: part for name, part in first.items() if name not in ("pending", "rng")})


def test_modules_are_mapped_once_an_episode() -> None:
    calls: list[str] = []

    def mapping(agent_id: str, episode: MultiAgentEpisode) -> str:
        calls.append(agent_id)
        return f"module_{agent_id}"

    episode = MultiAgentEpisode("e", policy_mapping_fn=mapping)
    episode.add_env_reset({"a": 0})
    assert episode.module_for("a") == "module_a" == episode.agent_episodes["a"].module_id
    episode.cut().module_for("a")
    assert calls == ["a"]
    ready = MultiAgentEpisode("e", agent_episodes={"x": SingleAgentEpisode("x", module_id="m")})
    assert ready.module_for("x") == "m"
    assert ready.module_for("y") == DEFAULT_MODULE_ID


def test_ready_trajectories_are_kept() -> None:
    one = SingleAgentEpisode(observations=np.zeros((3, 1)), actions=np.zeros(2), rewards=np.ones(2))
    episode = MultiAgentEpisode(agent_episodes={"a": one})
    assert episode.agent_episodes["a"] is one
    assert len(episode) == 2
    assert episode.get_return() == 2


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (lambda agent_id: "a", r"'ben', episode\) raised TypeError: .*It takes an agent's id and the episode"),
        (lambda agent_id, episode: {"anna": "a"}[agent_id], r"'ben', episode\) raised KeyError: 'ben'"),
        (lambda agent_id, episode: None, r"'ben', episode\) returned None; return the id of the agent's module"),
        (lambda agent_id, episode: ["a"], r"'ben', episode\) returned \['a'\]; return the id"),
    ],
)
def test_a_mapping_that_gives_no_module_is_told_so(mapping: Any, message: str) -> None:
    with pytest.raises(ModuleError, match=rf"policy_mapping_fn\({message}"):
        MultiAgentEpisode(policy_mapping_fn=mapping).module_for("ben")
