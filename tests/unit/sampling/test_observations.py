"""Observations of another shape or kind than the space says: never broadcast or rounded in silence, in no step."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from unison.errors import EnvironmentFailure
from unison.sampling.observations import empty_observations, writer_for

BOX = gym.spaces.Box(-10, 10, (3,))
DICT = gym.spaces.Dict({"a": BOX, "b": gym.spaces.Discrete(5)})
TUPLE = gym.spaces.Tuple((BOX, gym.spaces.Discrete(5)))
BYTES = gym.spaces.Box(0, 255, (3,), np.uint8)
ZERO = np.zeros(3, np.float32)


def make_env(settings: dict[str, Any]) -> gym.Env[Any, Any]:
    """Three steps an episode; the steps, or the last one alone, show something else than the reset."""
    # The class is local so that it travels to worker processes by value.

    class Showing(gym.Env[Any, Any]):
        observation_space = settings["space"]
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            self.step_count = 0
            return settings.get("first", settings["right"]), {}

        def step(self, action: Any) -> Any:
            self.step_count += 1
            over = self.step_count == 3
            shown = settings["wrong"] if over or not settings.get("at_end") else settings["right"]
            return shown, 1.0, settings.get("terminated", over), False, {}

    return Showing()


RIGHT = {"box": ZERO, "dict": {"a": ZERO, "b": 0}, "tuple": (ZERO, 0), "choice": 0, "bytes": np.zeros(3, np.uint8)}
SPACES = {"box": BOX, "dict": DICT, "tuple": TUPLE, "choice": gym.spaces.Discrete(5), "bytes": BYTES}
WRONG: list[tuple[str, Any, str]] = [
    ("box", np.float32(5), r"of shape \(\), but its observation_space says \(3,\). Make the two agree"),
    ("box", np.ones(1, np.float32), r"of shape \(1,\), but its observation_space says \(3,\)"),
    ("box", np.ones((1, 3), np.float32), r"of shape \(1, 3\), but its observation_space says \(3,\)"),
    ("box", np.ones(4), r"of shape \(4,\), but"),
    ("box", None, r"of shape \(\), but"),
    ("box", [None] * 3, r"the observation \[None, None, None\], but its observation_space says float32"),
    ("box", [[1.0], [1.0, 2.0]], r"of shape a list, but"),
    ("dict", {"a": ZERO}, r"\{'a': \(3,\)\}, but its observation_space says \{'a': \(3,\), 'b': \(\)\}"),
    ("dict", {"a": ZERO, "b": 0, "c": 1}, r"'c': \(\)\}, but"),
    ("dict", {"a": ZERO, "b": 1.5}, r"the observation 1.5 at 'b', but its observation_space says int64"),
    ("dict", {"a": ZERO[:1], "b": 1}, r"\{'a': \(1,\), 'b': \(\)\}, but"),
    ("dict", ZERO, r"of shape \(3,\), but"),
    ("tuple", (ZERO,), r"\{'0': \(3,\)\}, but"),
    ("tuple", [ZERO, np.ones((2, 2))], r"of shape a list, but"),
    ("choice", 1.7, r"the observation 1.7, but its observation_space says int64 \(its values are no int64\)"),
    ("choice", np.zeros(1, np.int64), r"of shape \(1,\), but its observation_space says \(\)"),
    ("bytes", np.array([-1.5, 300, 2.7]), "its observation_space says uint8"),
    ("bytes", np.array([0, 300, 2]), "its observation_space says uint8"),
]


@pytest.mark.parametrize("when", ["reset", "step", "end"])
@pytest.mark.parametrize(("name", "wrong", "message"), WRONG)
def test_what_is_none_of_the_space_is_named(make_runner: Any, when: str, name: str, wrong: Any, message: str) -> None:
    check_named(make_runner, "sync", when, name, wrong, message)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium's log of what a worker raised
@pytest.mark.parametrize(
    ("number", "when"), [(1, "reset"), (1, "step"), (1, "end"), (4, "step"), (7, "end"), (13, "step")]
)
def test_processes_name_it_too(make_runner: Any, number: int, when: str) -> None:
    check_named(make_runner, "async", when, *WRONG[number])


def check_named(make_runner: Any, mode: str, when: str, name: str, wrong: Any, message: str) -> None:
    settings = {"space": SPACES[name], "right": RIGHT[name], "wrong": wrong, "at_end": when == "end"}
    settings |= {"first": wrong} if when == "reset" else {}
    runner = make_runner(make_env, settings, vectorization=mode, envs=2)
    with pytest.raises(EnvironmentFailure, match=f"'make_env' .*{message}"):
        runner.sample(num_timesteps=12)


FITTING: list[tuple[gym.Space[Any], Any]] = [
    (BOX, np.ones(3)),
    (BOX, np.ones(3, np.int64)),
    (BOX, [1.0, 1, 1]),
    (BYTES, np.ones(3, np.int64)),
    (BYTES, [1, 1, 1]),
    (gym.spaces.Box(-1, 1, ()), 1.0),
    (gym.spaces.Box(0, 255, (), np.uint8), 1),
    (gym.spaces.Discrete(5), np.int32(1)),
    (gym.spaces.Discrete(5), np.array(1)),
    (gym.spaces.Discrete(5), 1.0),
    (gym.spaces.MultiBinary(3), np.ones(3, np.bool_)),
    (gym.spaces.MultiDiscrete([3, 3]), np.ones(2, np.int8)),
]


@pytest.mark.parametrize(("space", "observation"), FITTING)
def test_the_same_numbers_in_another_type_are_taken(space: gym.Space[Any], observation: Any) -> None:
    arrays = empty_observations(space, 2, "name")
    writer_for(arrays)(1, observation)
    assert (arrays[1] == 1).all()
    assert (arrays[0] == 0).all()


@pytest.mark.parametrize("terminated", ["False", None, np.array([False]), np.array([False, True])])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_flags_are_true_or_false(make_runner: Any, mode: str, terminated: Any) -> None:
    settings = {"space": BOX, "right": ZERO, "wrong": ZERO, "terminated": terminated}
    runner = make_runner(make_env, settings, vectorization=mode, envs=1)
    with pytest.raises(EnvironmentFailure, match=r"step\(\) returned terminated=.*; return True or False"):
        runner.sample(num_timesteps=4)


@pytest.mark.parametrize("terminated", [0, np.bool_(False), np.array(False)])
def test_one_number_of_any_kind_is_a_flag(make_runner: Any, terminated: Any) -> None:
    settings = {"space": BOX, "right": ZERO, "wrong": ZERO, "terminated": terminated}
    (episode,) = make_runner(make_env, settings, envs=1).sample(num_timesteps=7)
    assert not episode.is_done


def make_vector(settings: dict[str, Any], num_envs: int) -> Any:
    class Vector(gym.vector.VectorEnv):
        metadata = {"autoreset_mode": AutoresetMode(settings["mode"])}  # noqa: RUF012

        def __init__(self) -> None:
            self.num_envs = num_envs
            self.single_observation_space, self.single_action_space = BOX, gym.spaces.Discrete(2)
            self.step_count = 0

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return settings.get("first", np.zeros((num_envs, 3), np.float32)), {}

        def step(self, actions: Any) -> Any:
            self.step_count += 1
            done = np.full(num_envs, self.step_count % 3 == 0)
            observations = settings.get("observations", np.full((num_envs, 3), self.step_count, np.float32))
            infos = {"final_obs": settings.get("final", observations.copy())}
            terminated = settings.get("terminated", done)
            return observations, np.ones(num_envs), terminated, np.zeros(num_envs, np.bool_), infos

    return Vector()


MODES = ["NextStep", "SameStep", "Disabled"]
OF_VECTOR: list[tuple[dict[str, Any], str]] = [
    ({"first": np.ones(3)}, r"returned an observation of shape \(3,\), but its observation_space says \(2, 3\)"),
    ({"observations": np.ones(3)}, r"returned an observation of shape \(3,\), but its observation_space says \(2, 3\)"),
    ({"observations": np.ones((2, 1))}, r"returned an observation of shape \(2, 1\), but"),
    ({"observations": np.float32(1)}, r"returned an observation of shape \(\), but"),
    ({"terminated": True}, r"returned terminated=True; return one flag for each copy, an array of shape \(2,\)"),
    ({"terminated": np.zeros((2, 1))}, r"returned terminated=array.* of shape \(2,\)"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("settings", "message"), OF_VECTOR)
def test_a_vector_environment_is_held_to_its_shapes(
    make_runner: Any, mode: str, settings: dict[str, Any], message: str
) -> None:
    runner = make_runner(make_vector, {"mode": mode, **settings}, envs=2, restart_failed_environments=True)
    with pytest.raises(EnvironmentFailure, match=f"vector environment 'make_vector'.* {message}"):
        runner.sample(num_timesteps=12)
    assert runner.get_metrics()["num_environment_restarts"] == 0


@pytest.mark.parametrize(
    ("final", "message"),
    [
        ([None, None], r"for copy 0, an observation of shape \(\), but its observation_space says \(3,\)"),
        (np.ones((2, 1)), r"for copy 0, an observation of shape \(1,\), but"),
        (np.float32(1), "for copy 0, "),
        ([ZERO], "for copy 1, "),
    ],
)
def test_final_observations_are_held_to_their_shape(make_runner: Any, final: Any, message: str) -> None:
    runner = make_runner(make_vector, {"mode": "SameStep", "final": final}, envs=2)
    with pytest.raises(EnvironmentFailure, match=rf"'make_vector' has in infos\['final_obs'\], {message}"):
        runner.sample(num_timesteps=12)


@pytest.mark.parametrize("mode", MODES)
def test_final_observations_are_kept(make_runner: Any, mode: str) -> None:
    episodes = make_runner(make_vector, {"mode": mode}, envs=2).sample(num_timesteps=6)
    assert [episode.get_observations()[:, 0].tolist() for episode in episodes if episode.is_terminated] == [
        [0.0, 1.0, 2.0, 3.0]
    ] * 2
