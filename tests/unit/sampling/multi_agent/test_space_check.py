"""Each agent is played by a module that is made for its spaces."""

from functools import partial
from typing import Any

import pytest
from gymnasium.spaces import Box, Discrete

from unison import MultiAgentRLModule
from unison.errors import EnvironmentFailure, SpaceError
from unison.modules import ActorCritic, RLModule

from .conftest import DISCRETE, Turns, Visitors

OBS = Box(-1, 1, (3,))


def made_for(observation_space: Any, action_space: Any) -> RLModule:
    return ActorCritic(observation_space=observation_space, action_space=action_space)


@pytest.mark.parametrize("env", [Turns, partial(Visitors, {"player_0": (0, 9), "player_1": (2, 9)})])
@pytest.mark.parametrize("spaces", [(OBS, Discrete(5)), (Box(-1, 1, (7,)), DISCRETE)])
def test_agents_of_other_spaces_than_their_module_are_refused(env: Any, spaces: Any, make_runner: Any) -> None:
    modules = MultiAgentRLModule({"right": made_for(OBS, DISCRETE), "wrong": made_for(*spaces)})
    wrongly = lambda agent_id, episode: "wrong" if agent_id == "player_1" else "right"  # noqa: E731
    runner = make_runner(env, module=modules, policies=["right", "wrong"], policy_mapping_fn=wrongly)
    with pytest.raises(SpaceError, match=r"Environment 0, agent 'player_1' has the .* module 'wrong' is made for"):
        runner.sample(num_timesteps=20)


def test_a_module_that_never_acts_may_have_other_spaces(make_runner: Any) -> None:
    modules = MultiAgentRLModule({"right": made_for(OBS, DISCRETE), "critic": made_for(Box(-1, 1, (7,)), DISCRETE)})
    settings = {"policies": ["right", "critic"], "policy_mapping_fn": lambda agent_id, episode: "right"}
    assert make_runner(Turns, module=modules, **settings).sample(num_timesteps=20)


def test_an_environment_that_does_not_say_the_spaces_of_an_agent_is_named(make_runner: Any) -> None:
    class Silent(Turns):
        def action_space(self, agent: str) -> Any:
            return {}[agent]

    runner = make_runner(Silent, module=made_for(OBS, DISCRETE))
    with pytest.raises(EnvironmentFailure, match=r"does not say the spaces of agent 'player_0': KeyError"):
        runner.sample(num_timesteps=3)
