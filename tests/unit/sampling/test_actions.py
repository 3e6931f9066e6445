"""Scaling and clipping of actions, and that environments get what it gives."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from unison.sampling.actions import ActionTransform

BOUNDS = Box(np.array([-2, 0, -np.inf, -1], np.float32), np.array([6, np.inf, np.inf, -1], np.float32))


def test_scales_bounded_components_and_clips_all() -> None:
    transform = ActionTransform(BOUNDS, scale=True, clip=False)
    raw = np.array([[0.0, -0.5, 7.0, 3.0], [-1.0, 0.5, -7.0, 0.0], [2.0, 9.0, 0.0, -3.0]], np.float32)
    before = raw.copy()
    taken = transform(raw)
    assert taken.tolist() == [[2, 0, 7, -1], [-2, 0.5, -7, -1], [6, 9, 0, -1]]
    assert taken.dtype == np.float32
    assert np.array_equal(raw, before)


def test_only_clips_or_leaves_alone() -> None:
    raw = np.array([[-9.0, -9.0, -9.0, -9.0]], np.float32)
    assert ActionTransform(BOUNDS, scale=False, clip=True)(raw).tolist() == [[-2, 0, -9, -1]]
    assert ActionTransform(BOUNDS, scale=False, clip=False)(raw) is raw


def test_trees_and_dtypes() -> None:
    space = Dict({"move": Box(0, 10, (1,), np.float64), "rest": Tuple([Discrete(3), MultiBinary(2)])})
    transform = ActionTransform(space, scale=True, clip=True)
    taken = transform({"move": np.zeros((2, 1), np.float32), "rest": (np.array([1, 2]), np.ones((2, 2), np.float32))})
    assert taken["move"].tolist() == [[5], [5]]
    assert taken["move"].dtype == np.float64
    assert taken["rest"][0].tolist() == [1, 2]
    assert taken["rest"][1].dtype == np.int8


def test_invert_undoes_scaling() -> None:
    transform = ActionTransform(BOUNDS, scale=True, clip=True)
    taken = np.array([[2.0, 3.0, -7.0, -1.0]], np.float32)
    assert transform.invert(taken).tolist() == [[0, 3, -7, 0]]
    assert np.array_equal(transform(transform.invert(taken)), taken)


class Echo(gym.Env):
    """Observes the action that it got."""

    def __init__(self, action_space: gym.Space[Any]) -> None:
        self.action_space = action_space
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.asarray(action, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("settings", "scale", "clip"),
    [
        ({}, True, True),
        ({"normalize_actions": False, "clip_actions": True}, False, True),
        ({"normalize_actions": False}, False, False),
    ],
)
def test_environments_get_transformed_actions_and_episodes_hold_the_policys(
    settings: dict[str, bool], scale: bool, clip: bool, make_runner: Any
) -> None:
    runner = make_runner(Echo, {"action_space": BOUNDS}, envs=2, **settings)
    transform = ActionTransform(BOUNDS, scale=scale, clip=clip)
    for episode in runner.sample(num_timesteps=20):
        assert np.abs(episode.get_actions()).max() > 1
        assert np.array_equal(episode.get_observations()[1:], transform(episode.get_actions()))


def test_random_actions_fill_the_bounds_and_are_held_as_the_policy_would_say_them(make_runner: Any) -> None:
    space = Box(np.full(4, -3, np.float32), np.full(4, 7, np.float32))
    runner = make_runner(Echo, {"action_space": space}, envs=2)
    for episode in runner.sample(num_timesteps=400, random_actions=True):
        assert np.abs(episode.get_actions()).max() <= 1 + 1e-6
        taken = episode.get_observations()[1:]
        assert taken.min() < -2.5
        assert taken.max() > 6.5
        assert np.allclose(taken, 2 + 5 * episode.get_actions(), atol=1e-5)
        assert not episode.get_extra_model_outputs()


class Masked(gym.Env):
    """Allows the options 0 and 2, then 1 and 2, and so on in turn; of several choices the same in each."""

    def __init__(self, action_space: gym.Space[Any], choices: int) -> None:
        self.action_space = action_space
        self.choices = choices
        self.observation_space = Dict({"action_mask": MultiBinary(3 * choices), "seen": Box(0, 1, (1,))})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.turn = 0
        return self.observe(), {}

    def observe(self) -> Any:
        mask = np.array([[1, 0, 1], [0, 1, 1]][self.turn % 2] * self.choices, np.int8)
        return {"action_mask": mask, "seen": np.zeros(1, np.float32)}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.turn += 1
        return self.observe(), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("space", "choices"), [(Discrete(3, start=5), 1), (MultiDiscrete([3, 3]), 2), (MultiDiscrete([[3], [3]]), 2)]
)
def test_random_actions_keep_to_the_action_mask(space: Any, choices: int, make_runner: Any, assert_same: Any) -> None:
    samples = []
    for _ in range(2):
        runner = make_runner(Masked, {"action_space": space, "choices": choices}, envs=2)
        samples.append(runner.sample(num_timesteps=80, random_actions=True))
    assert_same(*samples)
    for episode in samples[0]:
        masks = episode.get_observations()["action_mask"][:-1].reshape(40, choices, 3)
        options = np.asarray(episode.get_actions()).reshape(40, choices) - space.start.reshape(-1)
        assert np.take_along_axis(masks, options[..., None], -1).all()
        assert {*options.ravel().tolist()} == {0, 1, 2}
