"""Connectors of the user that go wrong are named, with what to do."""

from typing import Any

import numpy as np
import pytest

from support.episodes import make_episode
from support.learners import make_config, make_learner
from unison.algorithms import PPOLearner
from unison.errors import BatchError, ConfigError
from unison.learner.connectors import AddAdvantages
from unison.types import tree_map

EPISODES = [make_episode(5, 0), make_episode(3, 1)]


def scaled(rollout: Any, *, learner: Any, module_id: str) -> Any:
    rollout.columns["rewards"] = rollout.columns["rewards"].numpy() * 0.1
    return rollout


def nested(rollout: Any, *, learner: Any, module_id: str) -> Any:
    rollout.columns["extra"] = {"a": rollout.columns["rewards"], "b": 3.0}
    return rollout


def shorter(rollout: Any, *, learner: Any, module_id: str) -> Any:
    rollout.columns["rewards"] = rollout.columns["rewards"][1:]
    return rollout


def taking(rollout: Any, *, learner: Any, module_id: str) -> Any:
    del rollout.columns["rewards"]
    return rollout


@pytest.mark.parametrize(
    ("connector", "message"),
    [
        (scaled, r"scaled made column 'rewards' a ndarray; make it a tensor: torch\.as_tensor"),
        (nested, r"nested made column 'extra/b' a float; make it a tensor"),
        (shorter, r"shorter made column 'rewards' \[7\]; give it 8 rows"),
        (taking, r"taking took away the columns \['rewards'\]"),
    ],
)
def test_what_makes_no_sound_columns_is_named(connector: Any, message: str) -> None:
    learner = make_learner(make_config(learner_connectors=[connector]))
    with pytest.raises(BatchError, match=f"Module 'default_policy': the connector {message}"):
        learner.update_from_episodes(EPISODES)


@pytest.mark.parametrize(
    ("connector", "message"),
    [
        (lambda rollout: rollout, r"<lambda> takes \(rollout\); a connector takes \(rollout, \*, learner, module_id\)"),
        (AddAdvantages, r"AddAdvantages is a class; give an object of it: AddAdvantages\(\)"),
    ],
)
def test_what_can_not_be_called_as_a_connector_is_named(connector: Any, message: str) -> None:
    class OwnConnectors(PPOLearner):
        connectors = (connector,)

    for learner in (make_learner(make_config(learner_connectors=[connector])), make_learner(cls=OwnConnectors)):
        with pytest.raises(ConfigError, match=f"Module 'default_policy': the connector {message}"):
            learner.update_from_episodes(EPISODES)


def test_a_type_error_from_within_a_connector_stays_as_it_is() -> None:
    def wrong(rollout: Any, *, learner: Any, module_id: str) -> Any:
        return rollout + 1

    learner = make_learner(make_config(learner_connectors=[wrong]))
    with pytest.raises(TypeError, match="unsupported operand"):
        learner.update_from_episodes(EPISODES)


def test_episodes_without_the_state_of_a_stateful_module_are_refused() -> None:
    recurrent = {"hidden_sizes": (8,), "lstm_size": 6}
    learner = make_learner(make_config().rl_module(model_config=recurrent))
    with pytest.raises(BatchError, match=r"'default_policy' is stateful, but its episodes hold no 'state_in'"):
        learner.update_from_episodes(EPISODES)

    def adding(rollout: Any, *, learner: Any, module_id: str) -> Any:
        state = learner.module[module_id].get_initial_state()
        rollout.columns["state_in"] = tree_map(lambda leaf: leaf.expand(rollout.num_steps, -1), state)
        return rollout

    learner = make_learner(make_config(learner_connectors=[adding]).rl_module(model_config=recurrent))
    assert np.isfinite(learner.update_from_episodes(EPISODES)["default_policy"]["total_loss"])
