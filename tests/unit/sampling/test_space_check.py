"""Modules act only in environments that they are made for."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from unison import PPOConfig, SingleAgentRLModuleSpec
from unison.errors import SpaceError
from unison.modules import ActorCritic, RandomModule
from unison.modules.spaces import layout_of

CARTPOLE = Box(-1, 1, (4,))


def small_config() -> PPOConfig:
    return PPOConfig().environment("CartPole-v1").rl_module(model_config={"hidden_sizes": (4,)})


@pytest.mark.parametrize(
    ("spaces", "found", "made_for"),
    [
        ((CARTPOLE, Discrete(5)), r"action_space Discrete\(2\)", r"Discrete\(5\)"),
        ((Box(-1, 1, (1,)), Discrete(1)), r"observation_space Box\(.*\(4,\)", r"Box\(-1.0, 1.0, \(1,\)"),
        ((Box(-1, 1, (7,)), Discrete(2)), r"observation_space Box\(.*\(4,\)", r"Box\(-1.0, 1.0, \(7,\)"),
        ((CARTPOLE, Box(-1, 1, (2,))), r"action_space Discrete\(2\)", r"Box\(-1.0, 1.0, \(2,\)"),
    ],
)
@pytest.mark.parametrize("given", ["settings", "spec"])
def test_spaces_that_the_environment_has_not_are_refused_by_name(
    spaces: tuple[Any, Any], found: str, made_for: str, given: str
) -> None:
    config = small_config()
    if given == "spec":
        config.rl_module(rl_module_spec=SingleAgentRLModuleSpec(None, *spaces))
    else:
        config.environment(observation_space=spaces[0], action_space=spaces[1])
    message = rf"'CartPole-v1' has the {found}.* module 'default_policy' is made for {made_for}.* Leave the spaces out"
    with pytest.raises(SpaceError, match=message):
        config.build()


def test_env_runners_of_other_processes_refuse_them_too() -> None:
    config = small_config().environment(observation_space=CARTPOLE, action_space=Discrete(5))
    with pytest.raises(SpaceError, match=r"'CartPole-v1' has the action_space Discrete\(2\)"):
        config.resources(num_env_runners=2).build()


def test_the_spaces_of_the_environment_may_be_given_beside_it() -> None:
    algorithm = small_config().environment(observation_space=CARTPOLE, action_space=Discrete(2)).build()
    algorithm.stop()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Discrete(2), MultiDiscrete([2])),
        (Discrete(2), Discrete(2, start=1)),
        (MultiDiscrete([2, 3]), MultiDiscrete([3, 2])),
        (MultiBinary(3), Box(0, 1, (3,))),
        (Dict({"a": Discrete(2)}), Dict({"b": Discrete(2)})),
        (Dict({"a": Discrete(2)}), Dict({"a": Discrete(3)})),
        (Tuple([Discrete(2)]), Tuple([Discrete(2), Discrete(2)])),
        (Tuple([Discrete(2)]), Discrete(2)),
    ],
)
def test_kind_shape_and_choices_make_a_layout(one: gym.Space, other: gym.Space) -> None:
    assert layout_of(one) != layout_of(other)
    assert layout_of(one) == layout_of(one)


def test_bounds_dtypes_and_the_order_of_keys_are_no_part_of_a_layout() -> None:
    assert layout_of(Box(-1, 1, (3,), np.float64)) == layout_of(Box(-9, np.inf, (3,), np.float32))
    parts = {"a": Discrete(2), "b": Box(-1, 1, (2,))}
    assert layout_of(Dict(parts)) == layout_of(Dict(list(reversed(parts.items()))))


def test_harmless_differences_pass(make_runner: Any) -> None:
    module = ActorCritic(observation_space=Box(-1, 1, (4,), np.float64), action_space=Discrete(2))
    assert sum(map(len, make_runner("CartPole-v1", module=module).sample(num_timesteps=12))) == 12


def test_a_module_without_spaces_is_not_compared(make_runner: Any) -> None:
    class Scripted(RandomModule):
        def forward_inference(self, batch: Mapping[str, Any]) -> dict[str, Any]:
            return {"actions": batch["obs"][:, 0].long() * 0}

    assert make_runner("CartPole-v1", module=Scripted(action_space=Discrete(2))).sample(num_timesteps=3)
