"""Chunks, mappings, batched inference, random numbers, state, crashes."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from unison import MultiAgentRLModuleSpec, SingleAgentRLModuleSpec
from unison.data import MultiAgentEpisode
from unison.errors import ConfigError, EnvironmentFailure, ModuleError
from unison.modules import MultiAgentRLModule
from unison.modules.random_module import RandomModule
from unison.types import tree_map

from .conftest import BOX, DISCRETE, RunnerMaker, Turns, Visitors

VISITS = {"early": (0, 3), "late": (2, 9), "always": (0, 9)}


def visitors() -> Visitors:
    return Visitors(VISITS)


def facts(episodes: Any) -> list[Any]:
    """Everything that the episodes hold, in a form that compares."""
    found: list[Any] = []
    for episode in episodes:
        for agent, part in episode.agent_episodes.items():
            if len(part):
                arrays = (part.get_observations(), part.get_actions(), part.get_rewards())
                found += [episode.id_, len(episode), agent, part.module_id, part.t_started, part.is_done]
                found += [array.tolist() for array in (*arrays, part.get_extra_model_outputs("action_logp"))]
    return found


@pytest.mark.parametrize("env", [visitors, Turns])
def test_chunks_hold_exactly_what_was_asked_for_and_join_to_whole_episodes(make_runner: RunnerMaker, env: Any) -> None:
    runner = make_runner(env, envs=3)
    chunks: list[MultiAgentEpisode] = []
    for number in (5, 1, 7, 2, 20, 4):
        sampled = runner.sample(num_timesteps=number)
        assert sum(len(chunk) for chunk in sampled) == number
        chunks += sampled
    by_agent: dict[Any, list[Any]] = {}
    for chunk in chunks:
        for agent, part in chunk.agent_episodes.items():
            by_agent.setdefault((chunk.id_, agent), []).append(part)
    joined = 0
    for parts in by_agent.values():
        parts = [part for part in parts if len(part)]
        for before, after in itertools.pairwise(parts):
            assert after.t_started == before.t_started + len(before)
            np.testing.assert_array_equal(before.get_observations(-1), after.get_observations(0))
            assert not before.is_done
            joined += 1
    assert joined > 5
    assert runner.get_metrics()["num_env_steps_sampled_lifetime"] == 39


def test_no_environment_gives_more_than_the_others(make_runner: RunnerMaker) -> None:
    runner = make_runner(visitors, envs=3)
    tags = [c.agent_episodes["always"].get_observations(0)[0] for _ in range(6) for c in runner.sample(num_timesteps=1)]
    assert len(set(tags)) == 3
    assert tags[:3] == tags[3:]


def test_each_module_acts_once_a_step_for_all_its_agents(make_runner: RunnerMaker) -> None:
    spec = {name: SingleAgentRLModuleSpec() for name in ("one", "rest")}
    runner = make_runner(
        visitors,
        envs=4,
        rl_module_spec=MultiAgentRLModuleSpec(module_specs=spec),
        policy_mapping_fn=lambda agent, episode: "one" if agent == "late" else "rest",
    )
    calls: list[tuple[str, int]] = []
    for name, module in runner.modules.items():

        def counting(batch: Any, name: str = name, forward: Any = module.forward_exploration) -> Any:
            calls.append((name, len(batch["obs"])))
            return forward(batch)

        module.forward_exploration = counting  # type: ignore[method-assign]
    runner.sample(num_timesteps=4 * 6)
    assert len(calls) == 6 + 4  # "rest" at each of 6 steps, "one" at the 4 that its agent is there for
    assert sum(rows for name, rows in calls if name == "one") == 4 * 4
    assert sum(rows for name, rows in calls if name == "rest") == 4 * (3 + 6)


def test_log_probs_are_those_of_the_module(make_runner: RunnerMaker) -> None:
    runner = make_runner(visitors, envs=2)
    module = runner.modules["default_policy"]
    for episode in runner.sample(num_timesteps=20):
        for part in episode.agent_episodes.values():
            if len(part):
                obs = torch.from_numpy(part.get_observations()[:-1])
                logits = module.forward_train({"obs": obs})["action_dist_inputs"]
                actions = torch.from_numpy(part.get_actions())
                expected = logits.log_softmax(-1)[torch.arange(len(part)), actions].numpy()
                np.testing.assert_allclose(part.get_extra_model_outputs("action_logp"), expected, atol=1e-5)


def test_the_mapping_is_asked_once_an_episode_and_draws_from_its_own_lots(make_runner: RunnerMaker) -> None:
    def run() -> tuple[list[Any], list[str]]:
        asked: list[Any] = []

        def mapping(agent: str, episode: MultiAgentEpisode) -> str:
            asked.append((episode.id_, agent))
            return str(episode.rng.choice(["a", "b"]))

        runner = make_runner(visitors, envs=2, policies=["a", "b"], policy_mapping_fn=mapping)
        chunks = [chunk for _ in range(6) for chunk in runner.sample(num_timesteps=11)]
        drawn = [
            f"{chunk.id_} {agent} {part.module_id}" for chunk in chunks for agent, part in chunk.agent_episodes.items()
        ]
        return asked, sorted(set(drawn))

    asked, drawn = run()
    assert len(asked) == len(set(asked))
    assert len(asked) >= 2 * 3 * 5
    assert len(drawn) == len(asked)
    assert {line.split()[-1] for line in drawn} == {"a", "b"}
    np.random.seed(7)
    assert run() == (asked, drawn)


def test_the_default_mapping(make_runner: RunnerMaker) -> None:
    runner = make_runner(visitors, policies=list(VISITS))
    (episode,) = runner.sample(num_episodes=1)
    assert episode.module_ids == {name: name for name in VISITS}
    runner = make_runner(visitors, policies=["everyone"])
    assert set(runner.sample(num_episodes=1)[0].module_ids.values()) == {"everyone"}
    runner = make_runner(visitors, policies=["late", "other"])
    with pytest.raises(ConfigError, match=r"named like agent 'early'.*policy_mapping_fn"):
        runner.sample(num_timesteps=1)
    runner = make_runner(visitors, policy_mapping_fn=lambda agent, episode: "nobody")
    with pytest.raises(ModuleError, match=r"maps agent 'early' to module 'nobody'.*default_policy.*policies="):
        runner.sample(num_timesteps=1)


def test_same_seeds_same_episodes_and_a_state_goes_on(make_runner: RunnerMaker) -> None:
    first, second = (make_runner(visitors, envs=3, seed=5) for _ in range(2))
    second.modules.set_state(first.modules.get_state())
    assert facts(first.sample(num_timesteps=50)) == facts(second.sample(num_timesteps=50))
    other = make_runner(visitors, envs=3, seed=6, module=first.modules)
    assert facts(other.sample(num_timesteps=50)) != facts(
        make_runner(visitors, envs=3, seed=5, module=first.modules).sample(num_timesteps=50)
    )
    first.reset_environments()
    third = make_runner(visitors, envs=3, seed=99, module=first.modules)
    third.set_state(first.get_state())
    assert facts(first.sample(num_timesteps=50)) == facts(third.sample(num_timesteps=50))
    assert first.get_metrics() == third.get_metrics()


def test_scripted_modules_draw_from_the_runs_seed(make_runner: RunnerMaker) -> None:
    module = MultiAgentRLModule({"default_policy": RandomModule(observation_space=BOX, action_space=DISCRETE)})

    def run() -> list[Any]:
        runner = make_runner(visitors, module=module)
        return [e.agent_episodes["always"].get_actions().tolist() for e in runner.sample(num_episodes=4)]

    before = torch.random.get_rng_state()
    first = run()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(123)
    assert run() == first
    assert len({str(actions) for actions in first}) > 1


def test_modules_with_state_carry_it_for_each_agent(make_runner: RunnerMaker) -> None:
    runner = make_runner(visitors, envs=2, model_config={"hidden_sizes": (4,), "lstm_size": 5})
    module = runner.modules["default_policy"]
    initial = module.get_initial_state()
    chunks = [chunk for _ in range(4) for chunk in runner.sample(num_timesteps=7)]
    checked = 0
    for chunk in chunks:
        for part in chunk.agent_episodes.values():
            if not len(part):
                continue
            states = part.get_extra_model_outputs("state_in")
            if part.t_started == 0:
                tree_map(lambda leaf, first: np.testing.assert_array_equal(leaf[0], first), states, initial)
            obs = torch.from_numpy(part.get_observations()[None, :-1])
            begin = tree_map(lambda leaf: torch.from_numpy(leaf[:1]), states)
            out = module.forward_train({"obs": obs, "state_in": begin})["action_dist_inputs"][0]
            np.testing.assert_allclose(out.numpy(), part.get_extra_model_outputs("action_dist_inputs"), atol=1e-5)
            checked += len(part)
    assert checked > 40


def test_a_crash_ends_the_episode_or_the_sample(make_runner: RunnerMaker) -> None:
    runner = make_runner(lambda: Visitors(VISITS, crash_at=4))
    with pytest.raises(EnvironmentFailure, match=r"boom.*restart_failed_environments"):
        runner.sample(num_timesteps=20)
    runner = make_runner(lambda: Visitors(VISITS, crash_at=4), restart_failed_environments=True)
    episodes = runner.sample(num_timesteps=9)
    assert sum(len(e) for e in episodes) == 9
    assert [len(e) for e in episodes] == [3, 3, 3]
    assert all(part.is_done for part in episodes[0].agent_episodes.values() if len(part))
    assert runner.get_metrics()["num_environment_restarts"] >= 2
    assert runner.get_metrics()["num_episodes_lifetime"] == 0


def test_evaluation_and_metrics(make_runner: RunnerMaker) -> None:
    runner = make_runner(
        visitors, envs=2, policies=["a", "b"], evaluation=True, policy_mapping_fn=lambda agent, _: "ab"[agent == "late"]
    )
    found = runner.evaluate(5)
    assert found["num_episodes"] == 5
    assert found["episode_len_mean"] == 6
    assert set(found["agent_return_mean"]) == set(VISITS)
    assert set(found["module_return_mean"]) == {"a", "b"}
    assert found["module_return_mean"]["b"] == found["agent_return_mean"]["late"]
    assert sum(found["agent_return_mean"].values()) == pytest.approx(found["episode_return_mean"])
    runner.sample(num_timesteps=30)
    report = runner.get_metrics()
    assert set(report["agent_return_mean"]) == set(VISITS)


def test_modules_come_and_go(make_runner: RunnerMaker) -> None:
    runner = make_runner(visitors, envs=2)
    runner.sample(num_timesteps=3)
    spec = SingleAgentRLModuleSpec(observation_space=BOX, action_space=DISCRETE, model_config={"hidden_sizes": (4,)})
    runner.add_module(module_id="new", module_spec=spec)
    runner.set_policy_mapping_fn(lambda agent, episode: "new")
    first = runner.sample(num_timesteps=20)
    assert {part.module_id for e in first for part in e.agent_episodes.values()} == {"default_policy", "new"}
    assert "new" in runner.get_metrics()["module_return_mean"]
    runner.set_policy_mapping_fn(lambda agent, episode: "default_policy")
    runner.remove_module("new")
    assert "new" not in runner.get_metrics()["module_return_mean"]
    episodes = runner.sample(num_timesteps=20)
    assert {part.module_id for e in episodes for part in e.agent_episodes.values()} == {"default_policy"}
    with pytest.raises(ModuleError, match="no module 'new'"):
        runner.remove_module("new")


def test_what_only_one_agent_has_is_refused(make_runner: RunnerMaker) -> None:
    with pytest.raises(ConfigError, match="vectorization='async' is for environments of one agent"):
        make_runner(visitors, vectorization="async")


def test_a_wrong_observation_is_named(make_runner: RunnerMaker) -> None:
    class Wrong(Visitors):
        def observe(self, action: float) -> Any:
            return np.zeros(2)

    with pytest.raises(EnvironmentFailure, match=r"Environment 0, agent 'early' returned.*\(2,\).*\(3,\)"):
        make_runner(lambda: Wrong(VISITS)).sample(num_timesteps=1)
