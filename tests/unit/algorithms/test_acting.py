"""`compute_actions` with observations that do not fit: the space, what came, and the fix."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from unison import PPO, PPOConfig
from unison.errors import BatchError
from unison.types import tree_leaves, tree_map

SPACES = {
    "box": gym.spaces.Box(-1, 1, (4,), np.float64),
    "choice": gym.spaces.Discrete(3),
    "image": gym.spaces.Box(0, 255, (2, 2, 1), np.uint8),
    "dict": gym.spaces.Dict({"at": gym.spaces.Box(-1, 1, (2,)), "key": gym.spaces.Discrete(2)}),
}


class Seeing(gym.Env[Any, int]):
    """Shows samples of a space, and ends at once."""

    def __init__(self, space: str) -> None:
        self.observation_space, self.action_space = SPACES[space], gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, True, False, {}


@pytest.fixture(scope="module")
def algorithms() -> Iterator[dict[str, PPO]]:
    torch.set_num_threads(1)
    made: dict[str, PPO] = {}
    for name in (*SPACES, "lstm"):
        config = PPOConfig().environment(Seeing, env_config={"space": "box" if name == "lstm" else name})
        model = {"hidden_sizes": (4,), "lstm_size": 3 if name == "lstm" else None}
        model |= {"conv_layers": ((2, 1, 1),)} if name == "image" else {}
        made[name] = config.rl_module(model_config=model).framework(engine="eager").build()
    yield made
    for algorithm in made.values():
        algorithm.stop()


@pytest.mark.parametrize("name", SPACES)
def test_samples_and_batches_of_every_space_fit(algorithms: dict[str, PPO], name: str) -> None:
    space = SPACES[name]
    assert algorithms[name].compute_actions(space.sample()) in (0, 1)
    batch = gym.vector.utils.batch_space(space, 5).sample()
    assert algorithms[name].compute_actions(batch).shape == (5,)


MISFITS: list[tuple[str, Any, str]] = [
    ("box", np.zeros((2, 3, 4)), r"float64 of shape \(2, 3, 4\), but module 'default_policy' observes float32"),
    ("box", np.zeros(5), r"float64 of shape \(5,\), but.* float32 of shape \(4,\), of Box.*with rows first"),
    ("box", np.zeros((3, 5)), r"float64 of shape \(3, 5\), but.* float32 of shape \(4,\)"),
    ("box", 0.5, r"float64 of shape \(\), but"),
    ("box", ["a", "b", "c", "d"], r"<U1 of shape \(4,\) \(could not convert string to float"),
    ("box", None, r"object of shape \(\) \(its values are no float32\), but"),
    ("box", {"at": np.zeros(4)}, r"{'at': float64 of shape \(4,\)} \(.*dict"),
    ("box", [[1.0, 2.0, 3.0, 4.0], [1.0]], r"a list \(.*inhomogeneous"),
    ("choice", np.zeros((2, 3)), r"of shape \(2, 3\), but .* int64 of shape \(\), of Discrete\(3\)"),
    ("choice", 0.5, "its values are no int64"),
    ("image", np.full((2, 2, 1), 0.5), "its values are no uint8"),
    ("image", np.zeros((1, 2, 2)), r"float64 of shape \(1, 2, 2\), but .* uint8 of shape \(2, 2, 1\)"),
    ("dict", {"at": np.zeros(2)}, r"{'at': float64 of shape \(2,\)} \('key'\), but .*'key': int64 of shape \(\)}"),
    ("dict", {"at": np.zeros((3, 2)), "key": 1}, r"'at': float64 of shape \(3, 2\), 'key': int64 of shape \(\)}, but"),
    ("dict", {"at": np.zeros((3, 2)), "key": np.zeros(2)}, "with rows first"),
    ("dict", np.zeros(3), r"float64 of shape \(3,\) \("),
]


@pytest.mark.parametrize(("name", "observation", "message"), MISFITS)
def test_what_does_not_fit_is_named(algorithms: dict[str, PPO], name: str, observation: Any, message: str) -> None:
    with pytest.raises(BatchError, match=rf"compute_actions\(\) got .*{message}"):
        algorithms[name].compute_actions(observation)


def test_a_state_of_other_rows_is_named(algorithms: dict[str, PPO]) -> None:
    _, state = algorithms["lstm"].compute_actions(np.zeros((2, 4)))
    with pytest.raises(BatchError, match=r"observations of 1 rows, but state=.*of shape \(2, .*None where"):
        algorithms["lstm"].compute_actions(np.zeros(4), state=state)


def test_the_callers_state_stays_as_it_is(algorithms: dict[str, PPO]) -> None:
    actor, observation = algorithms["lstm"], np.full(4, 0.5)
    _, first = actor.compute_actions(observation)
    kept = tree_map(torch.clone, first)
    as_arrays = tree_map(lambda leaf: leaf.numpy().astype(np.float64), kept)
    seconds = [actor.compute_actions(observation, state=state)[1] for state in (first, first, as_arrays)]
    for ours, before, after in zip(*map(tree_leaves, (first, kept, seconds[0])), strict=True):
        assert torch.equal(ours, before)
        assert not torch.equal(after, before)
    for second in seconds:
        assert all(map(torch.equal, tree_leaves(second), tree_leaves(seconds[0])))


MISFIT_STATES: dict[str, Callable[[Any], Any]] = {
    "no tree": lambda state: "x",
    "empty": lambda state: {},
    "half": lambda state: {"policy": state["policy"]},
    "no leaf": lambda state: state | {"value": {"h": state["value"]["h"]}},
    "leaf too many": lambda state: state | {"more": torch.zeros(1, 3)},
    "width": lambda state: tree_map(lambda leaf: leaf[:, :2], state),
    "text": lambda state: tree_map(lambda leaf: "x", state),
    "sequence": lambda state: tuple(state.values()),
    "array": lambda state: np.zeros((1, 3)),
}


@pytest.mark.parametrize("how", MISFIT_STATES)
def test_a_state_of_another_kind_is_named(algorithms: dict[str, PPO], how: str) -> None:
    _, state = algorithms["lstm"].compute_actions(np.zeros(4))
    message = r"but state=.*; the state of module 'default_policy' is {'policy': {'h': float32 of shape \(1, 3\).*None"
    with pytest.raises(BatchError, match=message):
        algorithms["lstm"].compute_actions(np.zeros(4), state=MISFIT_STATES[how](state))


def test_a_module_without_state_takes_none(algorithms: dict[str, PPO]) -> None:
    with pytest.raises(BatchError, match=r"the state of module 'default_policy' is {}"):
        algorithms["box"].compute_actions(np.zeros(4), state={"h": torch.zeros(1, 3)})
