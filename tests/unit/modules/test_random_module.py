from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from unison.errors import SpaceError
from unison.modules import RandomModule
from unison.types import tree_leaves, tree_map

OBS = spaces.Box(-1, 1, (3,))


def draw(space: gym.Space[Any], rows: int = 2000) -> Any:
    return RandomModule(observation_space=OBS, action_space=space).forward_exploration({"obs": torch.zeros(rows, 3)})[
        "actions"
    ]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4, start=-2),
        spaces.MultiDiscrete([2, 3], start=[1, 5]),
        spaces.MultiDiscrete([[2, 3], [4, 5]]),
        spaces.MultiBinary((2, 2)),
        spaces.Box(-2, 5, (3,)),
        spaces.Box(-2, 5, (2,), np.float64),
        spaces.Box(0, 255, (2,), np.uint8),
        spaces.Box(np.float32([-np.inf, -np.inf, 0.0]), np.float32([np.inf, 1.0, np.inf])),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Tuple((spaces.Box(0, 1, ()), spaces.MultiBinary(2)))}),
    ],
)
def test_every_action_belongs_to_the_space(space: gym.Space[Any]) -> None:
    actions = draw(space, 100)
    for row in range(100):
        assert space.contains(tree_map(lambda leaf, row=row: _scalar(leaf[row].numpy()), actions))
    assert all(len(leaf) == 100 for leaf in tree_leaves(actions))


def _scalar(value: np.ndarray) -> Any:
    return value[()] if value.ndim == 0 and value.dtype.kind == "i" else value


def test_choices_are_equally_likely() -> None:
    counts = torch.bincount(draw(spaces.Discrete(4)), minlength=4)
    assert (counts - 500).abs().max() < 100
    wheels = draw(spaces.MultiDiscrete([2, 4]))
    assert (torch.bincount(wheels[:, 1]) - 500).abs().max() < 100


def test_boxes_are_uniform_up_to_their_bounds() -> None:
    actions = draw(spaces.Box(-1, 3, (1,)))
    np.testing.assert_allclose([actions.mean(), actions.min(), actions.max()], [1.0, -1.0, 3.0], atol=0.1)
    integers = draw(spaces.Box(0, 3, (1,), np.int64))
    assert (torch.bincount(integers.flatten(), minlength=4) - 500).abs().max() < 100


def test_masks_are_kept() -> None:
    observation_space = spaces.Dict({"action_mask": spaces.MultiBinary(5), "x": OBS})
    module = RandomModule(observation_space=observation_space, action_space=spaces.MultiDiscrete([2, 3], start=[0, 1]))
    mask = torch.tensor([[1, 0, 0, 1, 1]], dtype=torch.int8).expand(500, 5)
    actions = module.forward_inference({"obs": {"action_mask": mask, "x": torch.zeros(500, 3)}})["actions"]
    assert not actions[:, 0].any()
    assert set(actions[:, 1].tolist()) == {2, 3}


def test_it_has_no_parameters_and_needs_no_observation_space() -> None:
    module = RandomModule(action_space=spaces.Discrete(2))
    assert not list(module.parameters())
    assert module.get_state() == {}
    module.set_state({})
    assert len(module.forward_inference({"obs": {"a": (torch.zeros(7, 2),)}})["actions"]) == 7


def test_spaces_that_cannot_be_drawn_from_are_named() -> None:
    with pytest.raises(SpaceError, match="needs an action_space"):
        RandomModule()
    with pytest.raises(SpaceError, match="Text"):
        RandomModule(action_space=spaces.Text(3))
