"""Modules come, go, change roles and become frozen opponents, on Learners, samplers and checkpoints alike."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pettingzoo import ParallelEnv

from unison import PPOConfig, SACConfig
from unison.algorithms.sac import SACLearner
from unison.errors import ConfigError, LearnerGroupError, ModuleError
from unison.modules.spaces import Space


class Duel(ParallelEnv):
    """Two agents; each is paid 1 for action 1, for four steps."""

    def __init__(self) -> None:
        self.possible_agents, self.agents = ["left", "right"], []

    def observation_space(self, agent: str) -> Space:
        from gymnasium.spaces import Box

        return Box(-1.0, 1.0, (2,))

    def action_space(self, agent: str) -> Space:
        from gymnasium.spaces import Discrete

        return Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.count = list(self.possible_agents), 0
        return {a: np.zeros(2, np.float32) for a in self.agents}, {}

    def step(self, actions: dict[str, Any]) -> Any:
        self.count += 1
        rewards = {a: float(action) for a, action in actions.items()}
        over = dict.fromkeys(self.agents, self.count == 4)
        observations = {a: np.full(2, self.count / 4, np.float32) for a in self.agents}
        self.agents = [] if self.count == 4 else self.agents
        return observations, rewards, over, dict.fromkeys(rewards, False), {}


def always_main(agent_id: str, episode: Any) -> str:
    return "main"


def against(opponent: str) -> Any:
    return lambda agent_id, episode: "main" if agent_id == "left" else opponent


@pytest.fixture
def algorithm() -> Any:
    torch.set_num_threads(1)
    made = make_config().build()
    yield made
    made.stop()


def make_config() -> PPOConfig:
    config = PPOConfig().environment(lambda _: Duel()).framework(engine="eager").debugging(seed=0)
    config.multi_agent(policies=["main"], policy_mapping_fn=always_main).env_runners(num_envs_per_env_runner=2)
    config.rl_module(model_config={"hidden_sizes": (8,)})
    return config.training(train_batch_size=32, minibatch_size=16, num_epochs=1)


def make_sac() -> Any:
    config = SACConfig().environment(lambda _: Duel()).framework(engine="eager").debugging(seed=0)
    config.multi_agent(policies=["main"], policy_mapping_fn=always_main).checkpointing(save_replay=True)
    config.rl_module(model_config={"hidden_sizes": (8,)})
    return config.training(train_batch_size=8, warm_up_steps=10, steps_per_iteration=30).build()


def weights(algorithm: Any, module_id: str) -> dict[str, Any]:
    return algorithm.learner_group.get_weights([module_id])[module_id]


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_a_snapshot_is_a_frozen_opponent_in_one_call(algorithm: Any) -> None:
    algorithm.train()
    algorithm.add_snapshot("past", of="main", policy_mapping_fn=against("past"))
    assert equal(weights(algorithm, "past"), weights(algorithm, "main"))
    before = weights(algorithm, "past")
    results = [algorithm.train() for _ in range(2)]
    assert equal(weights(algorithm, "past"), before)
    assert not equal(weights(algorithm, "main"), before)
    assert "past" not in results[-1]["learners"]
    assert algorithm.learner_group.foreach_learner(lambda learner: len(learner.optimizers.slots)) == [1]
    assert set(results[-1]["env_runners"]["module_return_mean"]) == {"main", "past"}
    acting = algorithm.env_runner.modules["past"].get_state(inference_only=True)
    assert equal(acting, {name: before[name] for name in acting})
    assert algorithm.compute_actions(np.zeros(2), module_id="past") in (0, 1)
    with pytest.raises(ModuleError, match="say which acts"):
        algorithm.compute_actions(np.zeros(2))


def test_a_module_joins_and_trains_with_settings_of_its_own(algorithm: Any) -> None:
    algorithm.evaluate(1)
    algorithm.add_module(
        module_id="new", config_overrides={"lr": 1e-4}, policies_to_train=["new"], policy_mapping_fn=against("new")
    )
    before = weights(algorithm, "main")
    results = algorithm.train()["learners"]
    assert results["new"]["default_optimizer_learning_rate"] == pytest.approx(1e-4)
    assert equal(weights(algorithm, "main"), before)
    assert set(algorithm.evaluate(2)["module_return_mean"]) == {"main", "new"}
    algorithm.set_policies_to_train(lambda module_id, batch: module_id == "main")
    before = weights(algorithm, "new")
    assert "main" in algorithm.train()["learners"]
    assert equal(weights(algorithm, "new"), before)
    with pytest.raises(ModuleError, match=r"names \['nobody'\]"):
        algorithm.set_policies_to_train(["nobody"])
    with pytest.raises(ConfigError, match="policies_to_train='main' is not allowed"):
        algorithm.set_policies_to_train("main")
    with pytest.raises(ModuleError, match="3 is no module id"):
        algorithm.add_module(module_id=3)
    with pytest.raises(ModuleError, match="exists already"):
        algorithm.add_module(module_id="new")


def test_all_or_none(algorithm: Any) -> None:
    class Broken(Exception):
        pass

    def fail(**_: Any) -> None:
        raise Broken

    for method, call in (("add_module", "add_module"), ("remove_module", "remove_module")):
        if method == "remove_module":
            algorithm.add_module(module_id="new", policy_mapping_fn=against("new"))
        target = algorithm.env_runner if method == "add_module" else algorithm.learner_group
        original = getattr(target, method)
        setattr(target, method, fail if method == "add_module" else lambda _: fail())
        before = list(algorithm.module_ids)
        with pytest.raises(Broken):
            getattr(algorithm, call)(module_id="new")
        setattr(target, method, original)
        assert algorithm.module_ids == before
        assert list(algorithm.env_runner.modules) == before
        algorithm.train()
    with pytest.raises(ModuleError, match="no module 'nobody'"):
        algorithm.remove_module("nobody")


@pytest.mark.parametrize("join", [lambda a: a.add_module(module_id="new"), lambda a: a.add_snapshot("new", of="main")])
def test_a_module_whose_weights_reach_no_sampler_joins_nobody(
    algorithm: Any, join: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(algorithm, "sync_weights", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            join(algorithm)
    assert algorithm.module_ids == list(algorithm.env_runner.modules) == ["main"]
    algorithm.train()


def rule(algorithm: Any) -> Any:
    return algorithm.learner_group.foreach_learner(lambda learner: learner.should_update)[0]


def test_who_trains_changes_with_the_modules_or_not_at_all(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleError, match=r"names \['typo'\]"):
        algorithm.add_module(module_id="new", policies_to_train=["typo"])
    assert (algorithm.module_ids, rule(algorithm)) == (["main"], None)
    with monkeypatch.context() as broken:
        broken.setattr(algorithm.env_runner, "add_module", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            algorithm.add_module(module_id="new", policies_to_train=["new"])
    assert (algorithm.module_ids, rule(algorithm)) == (["main"], None)
    algorithm.add_module(module_id="new", policies_to_train=["new"])
    assert rule(algorithm) == ("new",)
    with pytest.raises(ModuleError, match=r"names \['new'\], but the modules are \['main'\]"):
        algorithm.remove_module("new", policies_to_train=["new"])
    assert (algorithm.module_ids, rule(algorithm)) == (["main", "new"], ("new",))
    assert list(algorithm.env_runner.modules) == ["main", "new"]
    algorithm.remove_module("new", policies_to_train=["main"])
    assert rule(algorithm) == ("main",)


def test_a_checkpoint_carries_the_population(tmp_path: Path) -> None:
    algorithm = make_config().env_runners(normalize_rewards=True).build()
    algorithm.train()
    algorithm.add_snapshot("past", of="main", policy_mapping_fn=against("past"))
    algorithm.train()
    algorithm.save_state(tmp_path / "saved")
    fresh = make_config().env_runners(normalize_rewards=True).debugging(seed=9).build()
    fresh.load_state(tmp_path / "saved")
    fresh.set_policy_mapping_fn(against("past"))
    try:
        assert fresh.module_ids == algorithm.module_ids
        assert list(fresh.env_runner.modules) == ["main", "past"]
        for _ in range(2):
            ours, theirs = fresh.train(), algorithm.train()
            assert ours["env_runners"] == theirs["env_runners"]
            assert "past" not in ours["learners"]
        assert equal(weights(fresh, "main"), weights(algorithm, "main"))
        assert equal(weights(fresh, "past"), weights(algorithm, "past"))
        scales = fresh.env_runner.get_state()["reward_normalizers"]
        assert {each["module_id"] for each in scales} == {"main", "past"}
        assert scales == algorithm.env_runner.get_state()["reward_normalizers"]
    finally:
        fresh.stop()
        algorithm.stop()


def test_two_hundred_lives_leave_no_residue(algorithm: Any) -> None:
    def live(number: int) -> None:
        name = f"guest_{number}"
        algorithm.add_module(module_id=name, policy_mapping_fn=against(name))
        if number % 10 == 0:
            assert name in algorithm.train()["learners"]
        algorithm.remove_module(name, policy_mapping_fn=always_main)

    def facts(learner: Any) -> Any:
        reductions = [key for key in learner.metrics.reductions if key[0].startswith("guest")]
        own = (learner.optimizers.slots, learner.coefficients, learner.config_overrides, learner.exchange._sums)
        return [len(part) for part in own], reductions

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    for number in range(20):
        live(number)
    algorithm.train()
    at_first, before = algorithm.learner_group.foreach_learner(facts)[0], tensors()
    for number in range(20, 200):
        live(number)
    results = algorithm.train()
    assert algorithm.learner_group.foreach_learner(facts)[0] == at_first
    assert at_first[1] == []
    assert tensors() <= before + 5
    assert set(results["env_runners"]["module_return_mean"]) == {"main"}
    assert set(results["learners"]) == {"main", "__all_modules__"}


def test_one_agent_has_nothing_to_map() -> None:
    algorithm = PPOConfig().environment("CartPole-v1").training(train_batch_size=64).build()
    with pytest.raises(ConfigError, match="environments of many agents"):
        algorithm.set_policy_mapping_fn(always_main)
    algorithm.add_module(module_id="other")
    with pytest.raises(ModuleError, match="acts for the only agent"):
        algorithm.remove_module("default_policy")
    assert algorithm.module_ids == ["default_policy", "other"]
    algorithm.train()
    algorithm.stop()


def test_in_a_replay_modules_have_settings_of_their_own_and_go_with_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    algorithm = make_sac()
    drawn: list[Any] = []
    update = algorithm.learner_group.update_from_batch
    monkeypatch.setattr(
        algorithm.learner_group,
        "update_from_batch",
        lambda batch, **other: drawn.append(batch) or update(batch, **other),
    )
    try:
        algorithm.train()
        algorithm.save_state(tmp_path / "saved")
        new: dict[str, Any] = {"config_overrides": {"n_step": 3, "gamma": 0.5}}
        algorithm.add_module(module_id="new", **new, policy_mapping_fn=against("new"))
        drawn.clear()
        algorithm.train()
        rewards = {
            m: torch.cat([torch.as_tensor(b.policy_batches[m]["rewards"]) for b in drawn if m in b.policy_batches])
            for m in ("main", "new")
        }
        assert set(rewards["main"].tolist()) == {0.0, 1.0}  # One step is paid 0 or 1.
        assert set(rewards["new"].tolist()) <= {n / 4 for n in range(8)}
        assert float(rewards["new"].max()) > 1
        algorithm.remove_module("new", policy_mapping_fn=always_main)
        assert list(algorithm.replay.modules) == ["main"]
        assert "main" in algorithm.train()["learners"]
        algorithm.add_module(module_id="new", **new, policy_mapping_fn=against("new"))
        algorithm.load_state(tmp_path / "saved")
        assert algorithm.policy_mapping_fn is None  # What was saved went by the config's mapping.
        assert "main" in algorithm.train()["learners"]
    finally:
        algorithm.stop()


def test_stopping_stops_the_rest_where_one_part_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = make_config().build()
    stop = algorithm.env_runner.stop
    monkeypatch.setattr(algorithm.env_runner, "stop", lambda: stop() or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        algorithm.stop()
    with pytest.raises(LearnerGroupError, match="was shut down"):
        algorithm.learner_group.get_module_ids()


def test_sac_draws_no_rows_of_modules_that_do_not_train() -> None:
    class Looking(SACLearner):
        def should_module_be_updated(self, module_id: str, batch: Any = None) -> bool:
            seen.append(set(batch))
            return super().should_module_be_updated(module_id, batch)

    def only_b(module_id: str, batch: Any) -> bool:
        return module_id == "b"

    seen: list[set[str]] = []
    config = SACConfig().environment(lambda _: Duel()).framework(engine="eager").debugging(seed=0)
    config.multi_agent(policies=["a", "b"], policy_mapping_fn=lambda agent, _: "a" if agent == "left" else "b")
    config.training(learner_class=Looking, train_batch_size=8, warm_up_steps=10, steps_per_iteration=20)
    algorithm = config.rl_module(model_config={"hidden_sizes": (8,)}).build()
    for rule, drawn in ((["a"], {"a"}), (None, {"a", "b"}), (only_b, {"a", "b"}), (["b"], {"b"}), ([], set())):
        algorithm.set_policies_to_train(rule)
        trained = set(algorithm.train()["learners"])
        assert all(found == drawn for found in seen)
        assert trained - {"__all_modules__"} == ({"b"} if rule is only_b else drawn)
        seen.clear()
    algorithm.stop()
