from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from unison.errors import CheckpointError, ModuleError, SpaceError
from unison.modules import ActorCritic, MultiAgentRLModule, RandomModule, RLModule
from unison.types import Tree

OBS, ACT = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)


class Linear(RLModule):
    def setup(self) -> None:
        self.net = nn.Linear(4, self.model_config.custom_model_config["width"])

    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        return {"action_dist_inputs": self.net(batch["obs"])}


class Shared(MultiAgentRLModule):
    def setup(self) -> None:
        if "b" in self and "a/x" in self:
            self["b"].encoder = self["a/x"].encoder
        self.critic = nn.Linear(3, 1)


def actor() -> ActorCritic:
    return ActorCritic(observation_space=OBS, action_space=ACT)


def assert_same(left: nn.Module, right: nn.Module) -> None:
    ours, theirs = left.state_dict(), right.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("observation_space", "settings"),
    [
        (OBS, {}),
        (spaces.Box(np.array([-np.inf, -1.0]), np.array([np.inf, 2.0]), dtype=np.float64), {"lstm_size": 3}),
        (
            spaces.Dict({"image": spaces.Box(0, 255, (8, 8, 3), np.uint8), "n": spaces.Discrete(3, start=1)}),
            {"conv_layers": [(4, 3, 1)], "activation": "gelu"},
        ),
        (spaces.Tuple((spaces.MultiDiscrete([2, 80]), spaces.MultiBinary(3), OBS)), {"normalize_observations": True}),
    ],
)
def test_a_module_round_trips(observation_space: gym.Space[Any], settings: dict[str, Any], tmp_path: Path) -> None:
    module = ActorCritic(observation_space=observation_space, action_space=ACT, model_config=settings)
    module.save_to_checkpoint(tmp_path / "m")
    loaded = RLModule.from_checkpoint(tmp_path / "m")
    assert type(loaded) is ActorCritic
    assert loaded.observation_space == observation_space
    assert loaded.action_space == ACT
    assert loaded.model_config == module.model_config
    assert_same(loaded, module)


def test_a_module_without_parameters_round_trips(tmp_path: Path) -> None:
    RandomModule(action_space=ACT).save_to_checkpoint(tmp_path / "m")
    loaded = RLModule.from_checkpoint(tmp_path / "m")
    assert type(loaded) is RandomModule
    assert loaded.observation_space is None


def test_a_class_that_is_not_registered_is_given_or_asked_for(tmp_path: Path) -> None:
    module = Linear(model_config={"custom_model_config": {"width": 3, "name": "x", "sizes": (1, 2)}})
    module.save_to_checkpoint(tmp_path / "m")
    for loaded in (
        Linear.from_checkpoint(tmp_path / "m"),
        RLModule.from_checkpoint(tmp_path / "m", module_class=Linear),
    ):
        assert type(loaded) is Linear
        assert loaded.model_config == module.model_config
        assert_same(loaded, module)
    with pytest.raises(CheckpointError, match="Linear, which is not registered here"):
        RLModule.from_checkpoint(tmp_path / "m")


def test_a_space_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"Text.*cannot be written"):
        RandomModule(observation_space=spaces.Text(3), action_space=ACT).save_to_checkpoint(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_several_modules_round_trip_with_what_they_share(tmp_path: Path) -> None:
    marl = Shared({"a/x": actor(), "b": actor(), "r": RandomModule(action_space=ACT)})
    marl.save_to_checkpoint(tmp_path / "m")
    loaded = Shared.from_checkpoint(tmp_path / "m")
    assert list(loaded) == ["a/x", "b", "r"]
    assert_same(loaded, marl)
    assert loaded["b"].encoder is loaded["a/x"].encoder


def test_one_of_several_modules_is_loaded_alone_and_whole(tmp_path: Path) -> None:
    marl = Shared({"a/x": actor(), "b": actor()})
    marl.save_to_checkpoint(tmp_path / "m")
    loaded = MultiAgentRLModule.from_checkpoint(tmp_path / "m", module_ids=["b"])
    assert list(loaded) == ["b"]
    assert_same(loaded["b"], marl["b"])
    with pytest.raises(CheckpointError, match=r"holds no module \['c'\]"):
        MultiAgentRLModule.from_checkpoint(tmp_path / "m", module_ids=["c"])
    with pytest.raises(ModuleError, match=r"module_ids='b' is a string; give a list of ids: \['b'\]"):
        MultiAgentRLModule.from_checkpoint(tmp_path / "m", module_ids="b")


def test_classes_of_several_modules_are_given_by_id(tmp_path: Path) -> None:
    marl = MultiAgentRLModule({"l": Linear(model_config={"custom_model_config": {"width": 3}}), "a": actor()})
    marl.save_to_checkpoint(tmp_path / "m")
    assert_same(MultiAgentRLModule.from_checkpoint(tmp_path / "m", module_classes={"l": Linear}), marl)
    with pytest.raises(CheckpointError, match="not registered"):
        MultiAgentRLModule.from_checkpoint(tmp_path / "m")
    with pytest.raises(ModuleError, match=r"module_classes names \['L'\]"):
        MultiAgentRLModule.from_checkpoint(tmp_path / "m", module_classes={"L": Linear})


def test_one_kind_is_not_taken_for_the_other(tmp_path: Path) -> None:
    actor().save_to_checkpoint(tmp_path / "one")
    MultiAgentRLModule({"a": actor()}).save_to_checkpoint(tmp_path / "many")
    with pytest.raises(CheckpointError, match=r"holds a multi_agent_rl_module.*MultiAgentRLModule\.from_checkpoint"):
        RLModule.from_checkpoint(tmp_path / "many")
    with pytest.raises(CheckpointError, match=r"holds a rl_module.*RLModule\.from_checkpoint"):
        MultiAgentRLModule.from_checkpoint(tmp_path / "one")
    with pytest.raises(CheckpointError):
        RLModule.from_checkpoint(tmp_path / "nothing")
