"""Modules with state: carried from step to step, fresh at each episode's start, stored before each step."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from unison.data import Columns
from unison.errors import ModuleError
from unison.modules import RLModule
from unison.types import Tree, tree_leaves


class Counter(RLModule):
    """Its state counts the steps of the episode and adds up the actions; it plays (count + sum) modulo 3."""

    def get_initial_state(self) -> dict[str, Tree]:
        return {"count": torch.zeros(1), "sums": (torch.full((2,), 5.0),)}

    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        observations, state = batch[Columns.OBS], batch[Columns.STATE_IN]
        assert observations.shape[1:] == (1, 4)
        action = (state["count"][:, 0] + state["sums"][0][:, 0]).long() % 3
        # In place, handing out what came in, in another order: the runner must not be misled by any of it.
        state["count"] += 1
        sums = state["sums"][0] + action[:, None]
        logits = torch.full((len(observations), 1, 3), -50.0).scatter(-1, action[:, None, None], 50.0)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.STATE_OUT: {"sums": (sums,), "count": state["count"]}}


@pytest.mark.parametrize("mode", ["sync", "NextStep", "crash"])
def test_state_follows_the_episodes(mode: str, make_runner: Any, counting_env: Any, counting_vector: Any) -> None:
    module = Counter(observation_space=counting_env({}).observation_space, action_space=counting_env({}).action_space)
    restarts = {"restart_failed_environments": True, "max_environment_restarts": 100}
    if mode == "NextStep":
        runner = make_runner(counting_vector, {"mode": mode}, module=module)
    else:
        settings = {"crash_at_step": 6} if mode == "crash" else {}
        runner = make_runner(counting_env, settings, module=module, **restarts)
    episodes = [*runner.sample(num_timesteps=40), *runner.sample(num_timesteps=41)]
    last: dict[str, tuple[float, float]] = {}
    for episode in episodes:
        state = episode.get_extra_model_outputs(Columns.STATE_IN)
        count, total = last.get(episode.id_, (0.0, 5.0))
        assert count == episode.t_started
        for step, action in enumerate(episode.get_actions()):
            assert state["count"][step].tolist() == [count]
            assert state["sums"][0][step].tolist() == [total, total]
            assert action == (count + total) % 3
            count, total = count + 1, total + action
        last[episode.id_] = (count, total)


def test_the_default_recurrent_module(make_runner: Any) -> None:
    runner = make_runner("CartPole-v1", model_config={"lstm_size": 8}, envs=2)
    for episode in runner.sample(num_timesteps=60):
        state = episode.get_extra_model_outputs(Columns.STATE_IN)
        for leaf in tree_leaves(state):
            assert leaf.shape == (len(episode), 8)
            if episode.t_started == 0:
                assert (leaf[0] == 0).all()
                assert (leaf[1:] != 0).any()


class LearnedStart(RLModule):
    """Its initial state depends on a parameter."""

    def setup(self) -> None:
        self.start = torch.nn.Parameter(torch.zeros(1))

    def get_initial_state(self) -> dict[str, Tree]:
        return {"h": self.start + 1}

    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        logits = torch.zeros(len(batch[Columns.OBS]), 1, 3)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.STATE_OUT: batch[Columns.STATE_IN]}


def test_new_weights_change_an_initial_state_that_depends_on_them(make_runner: Any, counting_env: Any) -> None:
    env = counting_env({})
    module = LearnedStart(observation_space=env.observation_space, action_space=env.action_space)
    runner = make_runner(counting_env, module=module)
    runner.set_weights({"default_policy": {"start": np.full(1, 6.0, np.float32)}})
    for episode in runner.sample(num_timesteps=20):
        assert (episode.get_extra_model_outputs(Columns.STATE_IN)["h"] == 7).all()


class Scripted(RLModule):
    """Always presses 2, without a distribution."""

    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        return {Columns.ACTIONS: torch.full((len(batch[Columns.OBS]),), 2)}


def test_scripted_modules_need_no_distribution(make_runner: Any, counting_env: Any) -> None:
    space = counting_env({})
    module = Scripted(observation_space=space.observation_space, action_space=space.action_space)
    for episode in make_runner(counting_env, module=module).sample(num_timesteps=30):
        assert (episode.get_actions() == 2).all()
        assert not episode.get_extra_model_outputs()


def test_a_module_that_says_nothing_raises(make_runner: Any, counting_env: Any) -> None:
    class Mute(RLModule):
        def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
            return {"vf_preds": torch.zeros(3)}

    with pytest.raises(ModuleError, match=r"Mute returned \['vf_preds'\]"):
        make_runner(counting_env, module=Mute()).sample(num_timesteps=3)


class Broken(Counter):
    """Returns what it is told to."""

    def setup(self) -> None:
        self.settings = self.model_config.custom_model_config

    def get_initial_state(self) -> Any:
        return self.settings.get("initial", {"h": torch.zeros(2), "c": torch.zeros(2)})

    def forward_inference(self, batch: Mapping[str, Tree]) -> Any:
        rows = len(batch[Columns.OBS])
        state = {"h": torch.zeros(rows, 2), "c": torch.zeros(rows, 2), **self.settings.get("parts", {})}
        state = {name: part for name, part in state.items() if part is not None}
        outputs = {Columns.ACTION_DIST_INPUTS: torch.zeros(rows, 1, 3), Columns.STATE_OUT: state}
        return self.settings.get("outputs", outputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outputs": {Columns.ACTION_DIST_INPUTS: torch.zeros(3, 1, 3)}}, r"returned .*, without \['state_out'\]"),
        ({"outputs": torch.zeros(3, 1, 3)}, r"forward_exploration returned a Tensor; return a dict of"),
        ({"parts": {"c": None}}, r"the state_out {'h': \(3, 2\)} does not fit the state_in {'h': \(3, 2\), 'c'"),
        ({"parts": {"d": torch.zeros(3, 2)}}, r"the state_out .*'d'.* does not fit"),
        ({"parts": {"c": torch.zeros(2)}}, r"the state_out .*'c': \(2,\)} does not fit"),
        ({"parts": {"c": np.zeros((3, 2))}}, r"the state_out .*'c': 'ndarray'} does not fit"),
        ({"initial": {"h": np.zeros(2)}}, r"get_initial_state returned holds \['h'\] that are no tensors"),
        ({"initial": torch.zeros(2)}, r"get_initial_state returned is a Tensor; return a dict"),
        ({"initial": None}, r"get_initial_state returned is a NoneType; return a dict"),
    ],
)
def test_a_stateful_module_that_breaks_its_contract_is_named(
    settings: Any, message: str, make_runner: Any, counting_env: Any
) -> None:
    space = counting_env({})
    spaces = {"observation_space": space.observation_space, "action_space": space.action_space}
    module = Broken(**spaces, model_config={"custom_model_config": settings})
    with pytest.raises(ModuleError, match=f"^Broken: .*{message}"):
        make_runner(counting_env, module=module).sample(num_timesteps=9)
