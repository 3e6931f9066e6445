"""The whole LearnerGroup API with 0 Learners: the one Learner lives in this process."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config, make_learner
from unison import ALL_MODULES, LearnerGroup, SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner
from unison.errors import BatchError, ConfigError, LearnerGroupError, ModuleError, StateError

SPEC = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (8,)})


def make_group(config: Any = None, module_ids: tuple[str, ...] = ("default_policy",)) -> LearnerGroup:
    config = config or make_config()
    if module_ids != ("default_policy",):
        config = config.multi_agent(policies=set(module_ids))
    return config.build_learner_group(spaces=dict.fromkeys(module_ids, (OBS, DISCRETE)))


def flat(weights: Any) -> dict[str, Any]:
    return {f"{m}/{n}": v for m, named in weights.items() for n, v in named.items()}


def test_a_group_trains_as_its_learner_does() -> None:
    learner = make_learner()
    with make_group() as group:
        columns = make_columns(32)
        expected = learner.update_from_batch(columns, minibatch_size=8, num_iters=2)
        results = group.update_from_batch(columns, minibatch_size=8, num_iters=2)
        assert_same(flat(learner.get_module_state()), flat(group.get_weights()))
        assert results["default_policy"] == expected["default_policy"]
        assert {type(value) for value in results[ALL_MODULES].values()} == {float, str}
        assert results[ALL_MODULES]["ticket"] == results[ALL_MODULES]["num_updates"] == 1
        assert group.is_local
        assert not group.is_remote
        assert len(group) == 1


def test_async_updates_hand_out_tickets_and_are_counted() -> None:
    with make_group() as group:
        tickets: list[float] = []
        for number in range(5):
            ready = group.update_from_batch(make_columns(8, number), async_update=True)
            tickets += [result[ALL_MODULES]["ticket"] for result in ready]
        tickets += [result[ALL_MODULES]["ticket"] for result in group.drain()]
        assert tickets == [1, 2, 3, 4, 5]
        stats = group.get_stats()
        assert stats["submitted"] == stats["trained"] + stats["dropped"] + stats["failed"] + stats["in_flight"] == 5
        assert group.get_results() == []


COUNTS = {"submitted": 3, "trained": 1, "dropped": 1, "failed": 1, "restarts": 0}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (True, "no counts of updates: True"),
        ({**COUNTS, "submitted": -5}, "no counts of updates"),
        ({**COUNTS, "trained": True}, "no counts of updates"),
        ({**COUNTS, "submitted": 4}, "do not add up"),
    ],
)
def test_counts_of_a_state_that_can_not_be_are_refused(counts: Any, message: str) -> None:
    with make_group() as group:
        group.update_from_batch(make_columns(8))
        before = repr(group.get_state())
        with pytest.raises(StateError, match=message):
            group.set_state({**group.get_state(), "learner_group": counts})
        assert repr(group.get_state()) == before
        group.set_state({**group.get_state(), "learner_group": COUNTS})
        assert {name: group.get_stats()[name] for name in COUNTS} == COUNTS


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_change_that_fails_on_the_way_changes_nothing(error: type[BaseException]) -> None:
    def train_and_fail(learner: Any) -> None:
        for number in range(2):
            learner.update_from_batch(make_columns(8, number))
        raise error

    with make_group() as group:
        group.update_from_batch(make_columns(8))
        before = group.get_weights()
        with pytest.raises(error):
            group.foreach_learner(train_and_fail)
        assert_same(flat(before), flat(group.get_weights()))
        assert group.update_from_batch(make_columns(8))[ALL_MODULES]["num_updates"] == 2


def test_a_failed_update_is_counted_and_changes_nothing() -> None:
    with make_group() as group:
        before = group.get_weights()
        with pytest.raises(BatchError):
            group.update_from_batch({"obs": np.zeros((4, 4), np.float32)})
        assert_same(flat(before), flat(group.get_weights()))
        stats = group.get_stats()
        assert (stats["submitted"], stats["failed"], stats["trained"]) == (1, 1, 0)
        group.update_from_batch(make_columns(8))


def test_the_version_of_weights_grows() -> None:
    with make_group() as group:
        versions = [group.get_weights().version]
        group.update_from_batch(make_columns(8))
        versions.append(group.get_weights().version)
        group.set_weights(group.get_weights())
        versions.append(group.get_weights().version)
        assert versions == sorted(set(versions))
        misfit = {**group.get_weights()["default_policy"], "policy_head.bias": np.zeros((2, 2), np.float32)}
        with pytest.raises(StateError, match=r"\(2, 2\)"):
            group.set_weights({"default_policy": misfit})
        assert group.get_weights().version == versions[-1]


def test_return_state_gives_the_weights_after_the_update() -> None:
    with make_group() as group:
        results = group.update_from_batch(make_columns(8), return_state=True)
        assert_same(flat(results["_rl_module_state_after_update"]), flat(group.get_weights()))


def test_state_through_files(tmp_path: Path) -> None:
    with make_group() as group, make_group() as other:
        for number in range(3):
            group.update_from_batch(make_columns(16, number))
        group.save_state(tmp_path / "group")
        other.load_state(tmp_path / "group")
        for g in (group, other):
            g.update_from_batch(make_columns(16, 9), minibatch_size=4)
        assert_same(flat(group.get_weights()), flat(other.get_weights()))
        learner = make_learner()
        learner.load_state(tmp_path / "group")  # a group's checkpoint is a Learner's
        other.load_state(tmp_path / "group")
        assert_same(flat(learner.get_module_state()), flat(other.get_weights()))


class TestLoadModuleState:
    def saved(self, path: Path) -> tuple[Path, Path]:
        with make_group(module_ids=("a", "b")) as group:
            group.update_from_batch({"a": make_columns(8), "b": make_columns(8)})
            group.save_state(path / "many")
            self.weights = group.get_weights()
            group.foreach_learner(lambda learner: learner.module["a"].save_to_checkpoint(path / "single"))
        return path / "many", path / "single"

    def test_all_and_some_and_single(self, tmp_path: Path) -> None:
        many, single = self.saved(tmp_path)
        with make_group(module_ids=("a", "b")) as group:
            group.load_module_state(marl_module_ckpt_dir=many)
            assert_same(flat(self.weights), flat(group.get_weights()))
        with make_group(module_ids=("a", "b")) as group:
            before = group.get_weights(["b"])
            group.load_module_state(marl_module_ckpt_dir=many, modules_to_load=["a"])
            assert_same(flat({"a": self.weights["a"]}), flat(group.get_weights(["a"])))
            assert_same(flat(before), flat(group.get_weights(["b"])))
        with make_group(module_ids=("a", "b")) as group:
            group.load_module_state(rl_module_ckpt_dirs={"b": single})
            assert_same(self.weights["a"], group.get_weights()["b"])

    def test_a_module_named_twice_raises(self, tmp_path: Path) -> None:
        many, single = self.saved(tmp_path)
        with make_group(module_ids=("a", "b")) as group:
            with pytest.raises(ModuleError, match=r"\['a'\] are named both"):
                group.load_module_state(marl_module_ckpt_dir=many, rl_module_ckpt_dirs={"a": single})
            with pytest.raises(ModuleError, match=r"holds no modules \['x'\]"):
                group.load_module_state(marl_module_ckpt_dir=many, modules_to_load=["x"])
            with pytest.raises(ModuleError, match="marl_module_ckpt_dir, or rl_module_ckpt_dirs"):
                group.load_module_state()


def test_modules_come_and_go() -> None:
    with make_group(module_ids=("a", "b")) as group:
        group.add_module(module_id="c", module_spec=SPEC, config_overrides={"lr": 0.01})
        assert set(group.get_weights()) == {"a", "b", "c"}
        assert "c" in group.update_from_batch({"c": make_columns(8)})
        group.remove_module("c")
        assert set(group.get_weights()) == {"a", "b"}
        with pytest.raises(ModuleError, match="no module 'c'"):
            group.remove_module("c")


def trained(learner: Any) -> list[str]:
    return [module_id for module_id in learner.get_module_ids() if learner.should_module_be_updated(module_id)]


def test_the_rule_of_what_trains_outlives_the_learners() -> None:
    config = make_config().multi_agent(policies_to_train=["a"])
    with make_group(config, ("a", "b")) as group:
        assert group.foreach_learner(trained) == [["a"]]
        group.replace_should_update(None)
        group.resize(0)
        assert group.foreach_learner(trained) == [["a", "b"]]
        group.add_module(module_id="c", module_spec=SPEC, new_should_module_be_updated=["c"])
        group.replace_should_update(None)
        group.resize(0)
        assert group.foreach_learner(trained) == [["a", "b", "c"]]


def test_a_module_whose_rule_fails_is_not_added() -> None:
    class Picky(PPOLearner):
        def replace_should_update(self, should_update: Any) -> None:
            super().replace_should_update(should_update)
            if should_update == ("c",):
                raise ModuleError("Never 'c' alone.")

    config = make_config(learner_class=Picky).multi_agent(policies_to_train=["a"])
    with make_group(config, ("a", "b")) as group:
        with pytest.raises(ModuleError, match="Never 'c' alone"):
            group.add_module(module_id="c", module_spec=SPEC, new_should_module_be_updated=["c"])
        for _ in range(2):
            assert group.get_module_ids() == ["a", "b"]
            assert group.foreach_learner(trained) == [["a"]]
            group.resize(0)


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ("b", ConfigError, "policies_to_train='b' is not allowed"),
        (5, ConfigError, "policies_to_train=5 is not allowed"),
        (["nope"], ModuleError, r"names \['nope'\], but the modules are \['a', 'b'"),
    ],
)
def test_a_rule_that_is_none_changes_nothing(rule: Any, error: type[Exception], message: str) -> None:
    with make_group(module_ids=("a", "b")) as group:
        with pytest.raises(error, match=message):
            group.replace_should_update(rule)
        with pytest.raises(error, match=message):
            group.add_module(module_id="c", module_spec=SPEC, new_should_module_be_updated=rule)
        for _ in range(2):
            assert group.foreach_learner(trained) == [["a", "b"]]
            assert group.should_update is None
            group.resize(0)


def test_a_rule_may_name_what_is_gone_since(tmp_path: Path) -> None:
    with make_group(module_ids=("a", "b")) as group:
        group.add_module(module_id="c", module_spec=SPEC, new_should_module_be_updated=["b", "c"])
        group.remove_module("c")
        group.resize(0)
        group.save_state(tmp_path / "group")
        with make_group(module_ids=("a", "b")) as other:
            other.load_state(tmp_path / "group")
            for each in (group, other):
                each.add_module(module_id="c", module_spec=SPEC)
                assert each.foreach_learner(trained) == [["b", "c"]]


@pytest.mark.parametrize("module_id", [3, "", "__all_modules__"])
def test_a_module_without_an_id_or_a_spec_is_not_added(module_id: Any) -> None:
    with make_group(module_ids=("a", "b")) as group:
        with pytest.raises(ModuleError, match=r"no module id|stands for all modules"):
            group.add_module(module_id=module_id, module_spec=SPEC)
        with pytest.raises(ModuleError, match="'c' must be a SingleAgentRLModuleSpec, not None"):
            group.add_module(module_id="c", module_spec=cast("Any", None))
        assert group.get_module_ids() == ["a", "b"]


def test_foreach_learner() -> None:
    with make_group() as group:
        assert group.foreach_learner(lambda learner, factor: factor * len(learner.module), factor=3) == [3]


def test_after_shutdown_everything_says_so() -> None:
    group = make_group()
    group.shutdown()
    group.shutdown()
    for call in (lambda: group.update_from_batch(make_columns(4)), group.get_weights, group.drain, group.get_results):
        with pytest.raises(LearnerGroupError, match="shut down"):
            call()


def test_a_custom_learner_class_is_used() -> None:
    class Mine(PPOLearner):
        pass

    with make_group(make_config(learner_class=Mine)) as group:
        assert group.foreach_learner(lambda learner: type(learner) is Mine) == [True]


@pytest.mark.parametrize("async_update", [False, True])
def test_timesteps_are_checked_before_an_update_is_queued(async_update: bool) -> None:
    with make_group() as group:
        with pytest.raises(BatchError, match="timesteps is 100"):
            group.update_from_batch(make_columns(8), timesteps=cast(Any, 100), async_update=async_update)
        assert group.get_stats()["submitted"] == 0
