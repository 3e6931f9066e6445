from typing import Any

import pytest
from gymnasium import spaces

from unison.config import AlgorithmConfig
from unison.errors import ConfigError
from unison.modules import (
    ActorCritic,
    MultiAgentRLModule,
    MultiAgentRLModuleSpec,
    RandomModule,
    SingleAgentRLModuleSpec,
    SpecFromConfig,
)
from unison.registry import lookup
from unison.types import DEFAULT_MODULE_ID

OBS, ACT, OTHER = spaces.Box(-1, 1, (4,)), spaces.Discrete(2), spaces.Box(-1, 1, (7,))


class Mine(MultiAgentRLModule):
    pass


def build(config: AlgorithmConfig, spaces_by_id: dict[str, Any]) -> MultiAgentRLModuleSpec:
    return SpecFromConfig(config, spaces_by_id).build_spec()


def test_it_is_what_configs_find_in_the_registry() -> None:
    assert lookup("module_spec_builder", "default") is SpecFromConfig


def test_without_a_spec_the_settings_and_spaces_make_one() -> None:
    config = AlgorithmConfig().rl_module(model_config={"hidden_sizes": [5]})
    spec = build(config, {DEFAULT_MODULE_ID: (OBS, ACT)})
    module = spec.build()[DEFAULT_MODULE_ID]
    assert type(module) is ActorCritic
    assert (module.observation_space, module.action_space) == (OBS, ACT)
    assert module.model_config.hidden_sizes == (5,)


def test_each_module_has_its_own_settings_and_spaces() -> None:
    config = (
        AlgorithmConfig()
        .rl_module(model_config={"activation": "relu"})
        .multi_agent(policies={"a": None, "b": SingleAgentRLModuleSpec(model_config={"hidden_sizes": [3]})})
    )
    modules = build(config, {"a": (OBS, ACT), "b": (OTHER, ACT)}).build()
    assert modules["a"].model_config.activation == "relu"
    assert modules["a"].model_config.hidden_sizes == (64, 64)
    assert modules["b"].model_config.activation == "tanh"
    assert modules["b"].model_config.hidden_sizes == (3,)
    assert modules["b"].observation_space is OTHER


def test_a_single_spec_is_the_template_of_all_modules_and_wins() -> None:
    template = SingleAgentRLModuleSpec(observation_space=OTHER, model_config={"hidden_sizes": (9,)})
    config = AlgorithmConfig().rl_module(rl_module_spec=template).multi_agent(policies=["a", "b"])
    config.rl_module(model_config={"hidden_sizes": [5]})
    spec = build(config, {"a": (OBS, ACT), "b": (OBS, ACT)})
    for module_id in "ab":
        assert spec.module_specs[module_id].observation_space is OTHER
        assert spec.module_specs[module_id].action_space is ACT
        assert spec.build()[module_id].model_config.hidden_sizes == (9,)
    assert template.action_space is None


def test_policies_may_bring_specs_of_their_own() -> None:
    config = AlgorithmConfig().multi_agent(policies={"learns": None, "random": SingleAgentRLModuleSpec(RandomModule)})
    modules = build(config, {"learns": (OBS, ACT), "random": (OBS, ACT)}).build()
    assert [type(module) for module in modules.values()] == [ActorCritic, RandomModule]


def test_a_multi_agent_spec_says_which_modules_there_are() -> None:
    given = MultiAgentRLModuleSpec(
        Mine, {"a": SingleAgentRLModuleSpec(None, OTHER), "b": SingleAgentRLModuleSpec(RandomModule)}
    )
    config = AlgorithmConfig().rl_module(rl_module_spec=given)
    spec = build(config, {"a": (OBS, ACT), "b": (OBS, ACT)})
    marl = spec.build()
    assert type(marl) is Mine
    assert list(marl) == ["a", "b"]
    assert marl["a"].observation_space is OTHER
    from_one_environment = build(config, {DEFAULT_MODULE_ID: (OBS, ACT)}).build()
    assert list(from_one_environment) == ["a", "b"]
    assert from_one_environment["b"].action_space is ACT


def test_policies_and_a_multi_agent_spec_complete_each_other() -> None:
    given = MultiAgentRLModuleSpec(module_specs={"a": SingleAgentRLModuleSpec(RandomModule)})
    config = AlgorithmConfig().rl_module(rl_module_spec=given).multi_agent(policies={"a": None, "b": None})
    modules = build(config, {"a": (OBS, ACT), "b": (OBS, ACT)}).build()
    assert [type(module) for module in modules.values()] == [RandomModule, ActorCritic]
    config.multi_agent(policies={"a": SingleAgentRLModuleSpec(RandomModule)})
    with pytest.raises(ConfigError, match=r"\['a'\] have a spec in rl_module_spec and another in policies"):
        build(config, {"a": (OBS, ACT)})


def test_spaces_alone_name_the_modules_if_nothing_else_does() -> None:
    assert list(build(AlgorithmConfig(), {"x": (OBS, ACT), "y": (OBS, ACT)}).module_specs) == ["x", "y"]


def test_spaces_for_unknown_modules_are_refused() -> None:
    config = AlgorithmConfig().multi_agent(policies={"a"})
    with pytest.raises(ConfigError, match=r"\['b'\], but the modules are \['a'\]"):
        build(config, {"a": (OBS, ACT), "b": (OBS, ACT)})


def test_scripted_modules_need_no_spaces_and_no_parameters() -> None:
    config = AlgorithmConfig().multi_agent(policies={"a": SingleAgentRLModuleSpec(RandomModule, action_space=ACT)})
    modules = build(config, {}).build()
    assert not list(modules.parameters())
