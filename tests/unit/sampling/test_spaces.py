"""Observations and actions of every kind arrive as they left."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from unison.errors import EnvironmentFailure, SpaceError
from unison.types import tree_items


def _any_env(settings: dict[str, Any]) -> gym.Env:
    class AnyEnv(gym.Env):
        """Draws observations from its space, and keeps them for the test to compare."""

        observation_space, action_space = copy.deepcopy(settings["spaces"])

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            if seed is not None:
                self.observation_space.seed(seed)
                self.seen: list[Any] = []
            return self.observe(), {}

        def observe(self) -> Any:
            self.seen.append(self.observation_space.sample())
            return self.seen[-1]

        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action)
            settings.get("envs", {})[id(self)] = self
            return self.observe(), 0.0, len(self.seen) % 5 == 0, False, {}

    return AnyEnv()


IMAGE = Box(0, 255, (16, 16, 3), np.uint8)
SPACES = [
    (IMAGE, Discrete(2)),
    (Box(-1, 1, (3,), np.float64), Discrete(3, start=-1)),
    (Discrete(5), MultiDiscrete([2, 3])),
    (MultiDiscrete([2, 3]), MultiBinary(3)),
    (MultiBinary(4), Box(-2, 2, (2,))),
    (
        Dict({"image": IMAGE, "pair": Tuple([Discrete(3), Box(-1, 1, (2,))])}),
        Dict({"a": Discrete(2), "b": Tuple([Box(-2, 2, (1,)), Discrete(3)])}),
    ),
    (Tuple([Box(-1, 1, (2,)), Discrete(2)]), Tuple([Discrete(2), Box(0, 1, (2,))])),
]


@pytest.mark.parametrize("spaces", SPACES, ids=lambda spaces: "-".join(type(space).__name__ for space in spaces))
def test_every_space(spaces: Any, make_runner: Any) -> None:
    envs: dict[int, Any] = {}
    runner = make_runner(lambda settings: _any_env({"spaces": spaces, "envs": envs}), envs=2)
    episodes = [*runner.sample(num_timesteps=21), *runner.sample(num_timesteps=21)]
    arrived = [
        {path: leaf[step] for path, leaf in tree_items(episode.get_observations())}
        for episode in episodes
        for step in range(len(episode))
    ]
    assert len(arrived) == 42
    sent = [dict(tree_items(observation)) for env in envs.values() for observation in env.seen]
    for observation in arrived:
        assert any(
            all(np.array_equal(np.asarray(other[path], leaf.dtype), leaf) for path, leaf in observation.items())
            for other in sent
        )
    for _, leaf in tree_items(episodes[0].get_observations()):
        assert leaf.dtype != np.float64
    if spaces[0] is IMAGE:
        assert episodes[0].get_observations().dtype == np.uint8


def test_async_with_trees(make_runner: Any, assert_same: Any) -> None:
    import cloudpickle

    def make(settings: dict[str, Any]) -> gym.Env:
        return build({"spaces": SPACES[5]})

    build = cloudpickle.loads(cloudpickle.dumps(_local(_any_env)))
    samples = []
    for mode in ("sync", "async"):
        runner = make_runner(make, envs=2, vectorization=mode)
        samples.append(runner.sample(num_timesteps=24, random_actions=True))
    assert_same(*samples)


class Reversed(gym.Env):
    """Its space puts "a" first, its observations "b"; each counts the steps, "b" from 100 on."""

    observation_space, action_space = Dict({"a": Box(0, 200, (1,)), "b": Box(0, 200, (1,))}), Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = -1
        return self.step(0)[0], {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        counts = np.array([self.steps], np.float32)
        return {"b": 100 + counts, "a": counts}, 0.0, False, self.steps == 3, {}


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_dicts_may_come_in_any_order_of_keys(vectorization: str, make_runner: Any) -> None:
    for episode in make_runner(Reversed, envs=2, vectorization=vectorization).sample(num_timesteps=24):
        seen = episode.get_observations()
        assert [seen["a"].ravel().tolist(), seen["b"].ravel().tolist()] == [[0, 1, 2, 3], [100, 101, 102, 103]]


def _local(function: Any) -> Any:
    def anonymous(settings: dict[str, Any]) -> Any:
        return function(settings)

    return anonymous


def test_unsupported_observations_raise(make_runner: Any) -> None:
    with pytest.raises(SpaceError, match="observations in Text"):
        make_runner(lambda settings: _any_env({"spaces": (Text(3), Discrete(2))}))


def test_observations_that_contradict_their_space_raise(make_runner: Any) -> None:
    class Liar(gym.Env):
        observation_space, action_space = Box(-1, 1, (3,)), Discrete(2)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return np.zeros(1, np.float32), {}

    with pytest.raises(EnvironmentFailure, match=r"Environment 0 of 'Liar' .* shape \(1,\), .* says \(3,\)"):
        make_runner(Liar).sample(num_timesteps=3)


def test_copies_with_different_spaces_raise(make_runner: Any) -> None:
    sizes = iter((2, 3))
    with pytest.raises(SpaceError, match=r"Environment 1 of .* All copies need the same spaces"):
        make_runner(lambda settings: _any_env({"spaces": (Box(-1, 1, (next(sizes),)), Discrete(2))}), envs=2)
