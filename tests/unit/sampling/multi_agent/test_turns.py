"""Who sees what, gets what and ends how: parallel environments and turns, worked out by hand."""

from typing import Any

import numpy as np
import pytest

from unison.data import MultiAgentEpisode

from .conftest import RunnerMaker, Turns, Visitors


def whole(runner: Any) -> MultiAgentEpisode:
    (episode,) = runner.sample(num_episodes=1)
    return episode


def test_agents_that_come_and_go(make_runner: RunnerMaker) -> None:
    visits = {"early": (0, 3), "late": (2, 9), "always": (0, 9)}
    episode = whole(make_runner(lambda: Visitors(visits)))
    assert len(episode) == 6
    early, late, always = (episode.agent_episodes[name] for name in visits)
    assert [len(e) for e in (early, late, always)] == [3, 4, 6]
    assert [(e.is_terminated, e.is_truncated) for e in (early, late, always)] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert early.get_observations()[:, 1].tolist() == [0, 1, 2, 3]
    assert late.get_observations()[:, 1].tolist() == [2, 3, 4, 5, 6]
    for part in (early, late, always):
        actions, observations = part.get_actions(), part.get_observations()
        steps = observations[:-1, 1]
        assert part.get_rewards().tolist() == (10 * steps + actions).tolist()
        assert observations[1:, 2].tolist() == actions.tolist()
        assert observations.dtype == np.float32
    assert episode.is_truncated
    assert not episode.is_terminated


def test_an_agent_without_an_observation_does_not_act_and_its_rewards_add_up(make_runner: RunnerMaker) -> None:
    episode = whole(make_runner(lambda: Visitors({"a": (0, 9), "b": (0, 9)}, silent=("b",))))
    b = episode.agent_episodes["b"]
    assert b.get_observations()[:, 1].tolist() == [0, 2, 4, 6]
    actions = b.get_actions()
    # Acts at steps 0, 2 and 4; the reward of the step in between is 10 * step.
    assert b.get_rewards().tolist() == (np.array([0 + 10, 20 + 30, 40 + 50]) + actions).tolist()
    assert len(episode.agent_episodes["a"]) == 6


def test_steps_in_which_nobody_acts(make_runner: RunnerMaker) -> None:
    episode = whole(make_runner(lambda: Visitors({"b": (0, 9)}, silent=("b",))))
    assert len(episode) == 6
    assert len(episode.agent_episodes["b"]) == 3


def test_an_agent_that_leaves_without_a_word_is_truncated(make_runner: RunnerMaker) -> None:
    episode = whole(make_runner(lambda: Visitors({"a": (0, 9), "b": (0, 9)}, leaves="b")))
    b = episode.agent_episodes["b"]
    assert (len(b), b.is_terminated, b.is_truncated) == (2, False, True)
    assert len(episode.agent_episodes["a"]) == 6


def test_turns_by_hand(make_runner: RunnerMaker) -> None:
    """7 moves of 3 players: 0 1 2 0 1 2 0; what others' moves pay comes until one's own next turn."""
    episode = whole(make_runner(Turns))
    zero, one, two = (episode.agent_episodes[f"player_{n}"] for n in range(3))
    assert len(episode) == 7
    assert zero.get_rewards().tolist() == [1.5, 1.5, 9.0]
    # What was paid before a player's first turn comes with its first step: 0.25 and 0.5.
    assert one.get_rewards().tolist() == [0.25 + 1.5, 1.5]
    assert two.get_rewards().tolist() == [0.5 + 1.5, 1.25]
    assert zero.get_observations()[:, 0].tolist() == [0, 3, 6, 7]
    assert one.get_observations()[:, 0].tolist() == [1, 4, 7]
    assert two.get_observations()[:, 0].tolist() == [2, 5, 7]
    assert all(part.is_terminated for part in (zero, one, two))
    assert episode.is_terminated
    assert episode.get_return() == pytest.approx(12 + 3.25 + 3.25)


def test_a_player_that_is_out_early(make_runner: RunnerMaker) -> None:
    """After the 4th move player 1 is truncated; players 2 and 0 go on with moves 5, 6 and 7."""
    episode = whole(make_runner(lambda: Turns(out=1)))
    zero, one, two = (episode.agent_episodes[f"player_{n}"] for n in range(3))
    assert (one.is_terminated, one.is_truncated) == (False, True)
    assert one.get_observations()[:, 0].tolist() == [1, 4]
    assert one.get_rewards().tolist() == [0.25 + 1 + 0.25 + 0.25]
    assert two.get_observations()[:, 0].tolist() == [2, 4, 6, 7]
    assert zero.get_rewards().tolist() == [1.5, 1.25, 1.25]
    assert two.get_rewards().tolist() == [0.5 + 1.25, 1.25, 9.0]
    assert zero.is_terminated
    assert two.is_terminated


def test_returns_by_agent(make_runner: RunnerMaker) -> None:
    runner = make_runner(Turns, evaluation=True)
    returns = runner.evaluate(1)["agent_return_mean"]
    assert returns == {"player_0": 12.0, "player_1": 3.25, "player_2": 3.25}
