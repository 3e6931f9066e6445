import copy
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from gymnasium import spaces

from unison.config import ModelConfig
from unison.errors import CheckpointError, ConfigError, SpaceError, StateError
from unison.modules import (
    ActorCritic,
    MultiAgentRLModule,
    MultiAgentRLModuleSpec,
    RandomModule,
    RLModule,
    SingleAgentRLModuleSpec,
)
from unison.types import Tree

OBS, ACT = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)


class Unregistered(RLModule):
    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        return {}


def test_the_default_class_is_the_actor_critic() -> None:
    module = SingleAgentRLModuleSpec(observation_space=OBS, action_space=ACT, model_config={"lstm_size": 3}).build()
    assert type(module) is ActorCritic
    assert module.observation_space is OBS
    assert module.action_space is ACT
    assert module.model_config == ModelConfig(lstm_size=3)


def test_a_class_of_ones_own_may_go_without_spaces() -> None:
    assert type(SingleAgentRLModuleSpec(Unregistered).build()) is Unregistered


def test_settings_are_checked_at_once_in_every_form() -> None:
    assert (
        SingleAgentRLModuleSpec(model_config=ModelConfig(lstm_size=3)).model_config
        == ModelConfig(lstm_size=3).as_dict()
    )
    with pytest.raises(ConfigError, match="lstm_size"):
        SingleAgentRLModuleSpec(model_config={"lstm_sise": 3})
    with pytest.raises(ConfigError, match="module_class must be a subclass of RLModule"):
        SingleAgentRLModuleSpec(torch.nn.Linear)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"action_space must be a gymnasium\.Space"):
        SingleAgentRLModuleSpec(action_space=2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="marl_module_class"):
        MultiAgentRLModuleSpec(RLModule)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"'a': .*ActorCritic"):
        MultiAgentRLModuleSpec(module_specs={"a": ActorCritic})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"module_specs must map module ids to .*, but is SingleAgentRLModuleSpec\("):
        MultiAgentRLModuleSpec(module_specs=SingleAgentRLModuleSpec())  # type: ignore[arg-type]


def test_specs_are_copied_and_pickled() -> None:
    spec = MultiAgentRLModuleSpec(module_specs={"a": SingleAgentRLModuleSpec(RandomModule, OBS, ACT)})
    for copied in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert copied == spec
        assert list(copied.build()) == ["a"]


def test_several_modules_are_built_in_their_order_and_class() -> None:
    class Mine(MultiAgentRLModule):
        pass

    specs = {"b": SingleAgentRLModuleSpec(None, OBS, ACT), "a": SingleAgentRLModuleSpec(RandomModule, None, ACT)}
    marl = MultiAgentRLModuleSpec(Mine, specs).build()
    assert type(marl) is Mine
    assert [(module_id, type(module)) for module_id, module in marl.items()] == [
        ("b", ActorCritic),
        ("a", RandomModule),
    ]


def test_the_module_that_cannot_be_built_is_named() -> None:
    spec = MultiAgentRLModuleSpec(module_specs={"walker": SingleAgentRLModuleSpec(observation_space=OBS)})
    with pytest.raises(SpaceError, match="Module 'walker': ActorCritic needs an action_space"):
        spec.build()


def test_weights_are_loaded_from_a_checkpoint(tmp_path: Path) -> None:
    source = SingleAgentRLModuleSpec(None, OBS, ACT).build()
    source.save_to_checkpoint(tmp_path / "module")
    spec = SingleAgentRLModuleSpec(None, OBS, ACT, load_state_path=tmp_path / "module")
    batch = {"obs": torch.randn(3, 4)}
    torch.testing.assert_close(spec.build().forward_train(batch), source.forward_train(batch))
    spec.model_config = {"hidden_sizes": (3,)}
    with pytest.raises(StateError, match="has unexpected 'encoder"):
        MultiAgentRLModuleSpec(module_specs={"x": spec}).build()


def test_a_spec_round_trips_as_plain_data() -> None:
    spec = SingleAgentRLModuleSpec(None, spaces.Dict({"a": OBS}), ACT, {"hidden_sizes": (5,)})
    again = SingleAgentRLModuleSpec.from_dict(spec.to_dict())
    assert again.module_class is ActorCritic
    assert (again.observation_space, again.action_space) == (spec.observation_space, spec.action_space)
    assert again.build().model_config == ModelConfig(hidden_sizes=(5,))
    custom = SingleAgentRLModuleSpec(Unregistered).to_dict()
    with pytest.raises(CheckpointError, match=r"Unregistered, which is not registered.*module_class="):
        SingleAgentRLModuleSpec.from_dict(custom)
    assert SingleAgentRLModuleSpec.from_dict(custom, Unregistered).module_class is Unregistered
