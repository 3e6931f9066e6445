from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Box, Discrete

from unison.config import AlgorithmConfig, make_environment, make_module_spec, spaces_of
from unison.errors import ConfigError, EnvironmentFailure


class Corridor(gymnasium.Env[Any, Any]):
    closed = 0

    def __init__(self, length: int = 5) -> None:
        if length < 1:
            raise ValueError("a corridor needs a length")
        self.observation_space = Box(0.0, length, (1,))
        self.action_space = Discrete(2)

    def close(self) -> None:
        Corridor.closed += 1


def make_corridor(env_config: dict[str, Any]) -> Corridor:
    env_config["touched"] = True
    return Corridor(env_config["length"])


def test_an_id_a_class_and_a_function_make_environments() -> None:
    assert make_environment("CartPole-v1", {"max_episode_steps": 7}).spec.max_episode_steps == 7
    assert make_environment(Corridor, {"length": 3}).observation_space.high[0] == 3.0
    config = AlgorithmConfig().environment(make_corridor, env_config={"length": 4})
    assert make_environment(config.env, config.env_config).observation_space.high[0] == 4.0
    assert config.env_config == {"length": 4}


def test_spaces_are_those_of_an_environment_that_is_closed_again() -> None:
    before = Corridor.closed
    observation_space, action_space = spaces_of(Corridor, {"length": 2})
    assert (observation_space, action_space) == (Box(0.0, 2.0, (1,)), Discrete(2))
    assert Corridor.closed == before + 1
    instance = Corridor(7)
    assert spaces_of(instance)[0].high[0] == 7.0
    assert Corridor.closed == before + 1


def test_what_cannot_be_made_is_named() -> None:
    with pytest.raises(ConfigError, match=r"config.environment\('CartPole-v1'\)"):
        make_environment(None)
    with pytest.raises(ConfigError, match="knows no environment 'CartPool-v1'"):
        make_environment("CartPool-v1")
    with pytest.raises(EnvironmentFailure, match=r"Corridor.*env_config=\{'length': 0\}: a corridor needs a length"):
        make_environment(Corridor, {"length": 0})
    with pytest.raises(EnvironmentFailure, match="size"):
        make_environment(Corridor, {"size": 1})


def test_a_function_that_returns_nothing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"environment\(env=<function .*\) returned None; let it return the env"):
        spaces_of(lambda env_config: None)


def test_what_is_no_environment_is_named() -> None:
    with pytest.raises(EnvironmentFailure, match="has no observation_space or action_space"):
        spaces_of(lambda settings: 7)


def test_building_without_any_space_says_how_to_give_them() -> None:
    with pytest.raises(ConfigError, match=r"environment\(env=\.\.\.\)"):
        make_module_spec(AlgorithmConfig())


def test_wrong_spaces_are_named() -> None:
    with pytest.raises(ConfigError, match=r"spaces\['p'\] .* a pair of gymnasium spaces"):
        make_module_spec(AlgorithmConfig(), spaces={"p": (Discrete(2), 3)})
    with pytest.raises(ConfigError, match="spaces is empty"):
        make_module_spec(AlgorithmConfig(), spaces={})


def test_a_config_without_an_algorithm_cannot_build_one() -> None:
    with pytest.raises(ConfigError, match="AlgorithmConfig names no algorithm"):
        AlgorithmConfig().environment("CartPole-v1").build()
    with pytest.raises(ConfigError, match="needs an environment"):
        AlgorithmConfig().build()
