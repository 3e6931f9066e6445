from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Box, Discrete

from unison import Algorithm, LearnerGroup, MultiAgentRLModuleSpec, PPOConfig, SingleAgentRLModuleSpec, TorchLearner
from unison.algorithms.ppo import PPOLearner
from unison.config import AlgorithmConfig, make_module_spec
from unison.errors import ConfigError

OBSERVATIONS, ACTIONS = Box(-1.0, 1.0, (3,)), Discrete(2)


class MyLearner(TorchLearner):
    """A Learner of one's own, whose loss needs no algorithm's settings."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        return fwd_out["vf_preds"].square().mean()


def small() -> PPOConfig:
    return PPOConfig().rl_module(model_config={"hidden_sizes": [4]}).framework(engine="eager")


def test_a_learner_is_built_with_a_frozen_copy_of_the_config() -> None:
    config = small().environment("CartPole-v1")
    learner = config.build_learner()
    assert isinstance(learner, PPOLearner)
    assert learner.module["default_policy"].observation_space.shape == (4,)
    assert learner.config.is_frozen
    assert not config.is_frozen
    assert learner.config.to_dict() == config.to_dict()


@pytest.mark.parametrize("env", ["CartPole-v1", lambda env_config: gymnasium.make("CartPole-v1"), "instance"])
def test_the_spaces_may_come_from_an_environment_given_when_building(env: Any) -> None:
    given = gymnasium.make("CartPole-v1") if env == "instance" else env
    assert small().build_learner(env=given).module["default_policy"].action_space == Discrete(2)


def test_the_spaces_may_be_given_for_each_module() -> None:
    learner = small().build_learner(spaces={"a": (OBSERVATIONS, ACTIONS), "b": (ACTIONS, OBSERVATIONS)})
    assert learner.module["a"].observation_space == OBSERVATIONS
    assert learner.module["b"].action_space == OBSERVATIONS


def test_the_spaces_may_be_settings() -> None:
    config = small().environment(observation_space=OBSERVATIONS, action_space=ACTIONS)
    assert config.build_learner().module["default_policy"].observation_space == OBSERVATIONS


def test_a_spec_with_spaces_needs_no_others() -> None:
    spec = SingleAgentRLModuleSpec(observation_space=OBSERVATIONS, action_space=ACTIONS)
    assert small().rl_module(rl_module_spec=spec).build_learner().module["default_policy"].action_space == ACTIONS
    group = small().build_learner_group(rl_module_spec=MultiAgentRLModuleSpec(module_specs={"a": spec}))
    with group:
        assert isinstance(group, LearnerGroup)
        assert list(group.get_weights(["a"])) == ["a"]


def test_the_class_of_the_learner_may_be_set() -> None:
    for config in (small(), AlgorithmConfig()):
        config.training(learner_class=MyLearner)
        assert type(config.build_learner(spaces={"a": (OBSERVATIONS, ACTIONS)})) is MyLearner


def test_an_algorithm_is_built() -> None:
    algorithm = small().environment("CartPole-v1").build()
    try:
        assert isinstance(algorithm, Algorithm)
        assert algorithm.config.is_frozen
    finally:
        algorithm.stop()


def test_contradictions_with_defaults_raise_when_building() -> None:
    with pytest.raises(ConfigError, match="minibatch_size=64 exceeds train_batch_size=32"):
        small().training(train_batch_size=32).build_learner(spaces={"a": (OBSERVATIONS, ACTIONS)})


def test_normalizing_observations_is_up_to_the_modules() -> None:
    config = small().env_runners(normalize_observations=True)
    spec = make_module_spec(config, spaces={"a": (OBSERVATIONS, ACTIONS)})
    assert spec.module_specs["a"].model_config["normalize_observations"]
    assert spec.module_specs["a"].model_config["hidden_sizes"] == (4,)
    assert not config.model_config["normalize_observations"]


@pytest.mark.parametrize("spaces", [(OBSERVATIONS, ACTIONS), {"a": OBSERVATIONS}, {"a": (OBSERVATIONS, 2)}])
def test_spaces_that_are_no_pairs_by_module_are_refused(spaces: Any) -> None:
    with pytest.raises(ConfigError, match=r"^spaces.* is .*; it takes a (dict by module|pair of gymnasium spaces)"):
        small().build_learner(spaces=spaces)


def test_a_config_is_made_of_mappings_only() -> None:
    with pytest.raises(ConfigError, match=r"data is \[1\], no mapping; from_dict takes what to_dict\(\) gives"):
        PPOConfig.from_dict([1])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"overrides is \[1\], no mapping"):
        PPOConfig.from_dict({}, overrides=[1])  # type: ignore[arg-type]
