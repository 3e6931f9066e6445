"""N Learners equal one for many modules: shared layers, one critic, who trains, own settings, comings and goings."""

from typing import Any

import numpy as np
import pytest

from support.episodes import make_episode
from support.equality import compare
from support.learners import DISCRETE, OBS, make_columns, make_config
from support.teams import CentralCritic, CentralLearner, SharedEncoder
from unison import ALL_MODULES, MultiAgentEpisode, MultiAgentRLModule, MultiAgentRLModuleSpec, SingleAgentRLModuleSpec
from unison.learner_group.processes import ProcessTransport
from unison.modules.random_module import RandomModule

pytestmark = pytest.mark.filterwarnings("default")
IDS = ("a", "b", "c")
ROWS = ({"a": 9, "b": 14, "c": 5}, {"b": 3, "c": 11}, {"a": 1}, {"c": 2, "b": 20})
"""Batches in which modules have many rows, few, fewer than there are ranks, or none."""
ADAM = {"name": "adam", "eps": 1e-3}
"""With a tiny eps, rounding in a gradient near 0 decides its sign."""
NEW = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (8,)})


def batch_of(rows: dict[str, int], seed: int) -> Any:
    columns = {m: make_columns(n, 10 * seed + ord(m)) for m, n in rows.items()}
    return "batch", columns, {"minibatch_size": 4, "num_iters": 2}


def only_b_and_c(module_id: str, batch: Any) -> bool:
    return module_id != "a"


def beside_another(module_id: str, batch: Any) -> bool:
    """Each module trains only where the one before it has rows; a always does."""
    return module_id == "a" or chr(ord(module_id) - 1) in batch


def team_config(team: type[MultiAgentRLModule], trained: Any = None) -> Any:
    config = make_config(
        lr=1e-2,
        optimizer=ADAM,
        vf_loss_coeff=0.0 if team is CentralCritic else 0.5,
        learner_class=CentralLearner if team is CentralCritic else None,
    )
    config.multi_agent(policies=list(IDS), policies_to_train=trained)
    specs = {m: SingleAgentRLModuleSpec() for m in IDS}
    return config.rl_module(rl_module_spec=MultiAgentRLModuleSpec(team, specs)).freeze()


def trained_in(answers: list[Any]) -> list[set[str]]:
    """The modules that trained in each update."""
    steps = "num_module_steps_trained"
    return [{m for m in outcome if steps in outcome[m] and m != ALL_MODULES} for outcome in answers[0][1]]


@pytest.mark.parametrize("team", [MultiAgentRLModule, SharedEncoder, CentralCritic])
@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        (None, ["abc", "bc", "a", "bc"]),
        (["b", "c"], ["bc", "bc", "bc"]),
        (only_b_and_c, ["bc", "bc", "bc"]),
        (beside_another, ["abc", "c", "a", "c"]),
    ],
    ids=["all", "a list", "a function", "a function of the batch"],
)
def test_who_trains_and_what_they_share(
    world: ProcessTransport, team: type[MultiAgentRLModule], trained: Any, expected: list[str]
) -> None:
    without_a = trained in (["b", "c"], only_b_and_c)  # A batch in which nothing trains is an error.
    updates = [batch_of(rows, i) for i, rows in enumerate(ROWS) if not without_a or set(rows) != {"a"}]
    answers = compare(world, team_config(team, trained), updates, IDS)
    assert trained_in(answers) == [set(ids) for ids in expected]


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_and_scripted_modules_beside_those_that_train(world: ProcessTransport, frozen: bool) -> None:
    kind = {"model_config": {"hidden_sizes": (8,), "frozen": True}} if frozen else {"module_class": RandomModule}
    config = make_config(lr=1e-2, optimizer=ADAM)
    config.multi_agent(policies={"a": SingleAgentRLModuleSpec(**kind), "b": None, "c": None})
    updates = [batch_of(rows, i) for i, rows in enumerate(ROWS) if set(rows) != {"a"}]
    answers = compare(world, config.freeze(), updates, IDS)
    assert trained_in(answers) == [{"b", "c"}] * 3


@pytest.mark.parametrize("team", [MultiAgentRLModule, SharedEncoder, CentralCritic])
def test_modules_come_go_and_change_roles_in_between(world: ProcessTransport, team: type[MultiAgentRLModule]) -> None:
    frozen = {"hidden_sizes": (8,), "frozen": True}
    past = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config=frozen)
    overrides = {"lr": [[0, 0.05], [100, 0.01]], "grad_clip": 0.1, "entropy_coeff": 0.01}
    updates = [
        batch_of(ROWS[0], 0),
        ("add_module", None, {"module_id": "d", "module_spec": NEW, "config_overrides": overrides}),
        batch_of({"a": 9, "d": 13}, 1),
        ("add_module", None, {"module_id": "p", "module_spec": past}),
        ("replace_should_update", None, {"should_update": ["b", "d"]}),
        batch_of({"a": 9, "b": 7, "d": 2, "p": 5}, 2),
        ("remove_module", None, {"module_id": "d"}),
        ("replace_should_update", None, {"should_update": beside_another}),
        batch_of(ROWS[3], 3),
        ("add_module", None, {"module_id": "d", "module_spec": NEW}),
        ("remove_module", None, {"module_id": "c"}),
        ("replace_should_update", None, {"should_update": None}),
        batch_of({"d": 11, "b": 1}, 4),
        ("remove_module", None, {"module_id": "p"}),
        batch_of({"a": 6}, 5),
    ]
    answers = compare(world, team_config(team), updates, IDS)
    assert trained_in(answers) == [set(ids) for ids in ("abc", "ad", "bd", "c", "bd", "a")]


SETTINGS: dict[str, Any] = {
    "a": {"lr": 0.05, "gamma": 0.5, "grad_clip": 0.05, "optimizer": {"name": "sgd", "momentum": 0.9}},
    "b": {"lr": [[0, 0.02], [60, 0.001]], "lambda_": 0.3, "clip_param": 0.05, "entropy_coeff": [[0, 0.1], [50, 0.0]]},
    "c": {"use_kl_loss": True, "kl_coeff": 1.0, "vf_clip_param": 0.1, "grad_clip": 0.01, "grad_clip_by": "value"},
}


def test_episodes_of_many_agents_with_settings_for_each_module(world: ProcessTransport) -> None:
    def episode(lengths: dict[str, int], seed: int) -> MultiAgentEpisode:
        ends = ("terminated", "truncated", "cut")
        agents = {
            f"agent_{m}{n}": make_episode(steps, seed + n + ord(m), end=ends[(seed + n) % 3], module_id=m)
            for m, steps in lengths.items()
            for n in range(2)
        }
        return MultiAgentEpisode(agent_episodes=agents)

    config = make_config(lr=1e-2, optimizer=ADAM, minibatch_size=8).multi_agent(
        policies=list(IDS), algorithm_config_overrides_per_module=SETTINGS
    )
    lengths = ({"a": 9, "b": 4, "c": 13}, {"b": 6}, {"a": 1, "c": 5})
    updates: list[Any] = [
        ("episodes", [episode(each, 7 * i + j) for j in range(2)], {"minibatch_size": 8, "num_iters": 2})
        for i, each in enumerate(lengths)
    ]
    answers = compare(world, config.freeze(), updates, IDS)
    assert trained_in(answers) == [{"a", "b", "c"}, {"b"}, {"a", "c"}]
    without = config.copy().multi_agent(algorithm_config_overrides_per_module={})
    plain = compare(world, without.freeze(), updates, IDS)
    ours, theirs = answers[0][0]["rl_module"], plain[0][0]["rl_module"]
    for module_id in IDS:  # Each module's settings count.
        assert any(not np.allclose(value, theirs[module_id][name]) for name, value in ours[module_id].items())
