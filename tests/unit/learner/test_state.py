"""A Learner's state: all of it, parts of it, through files, and errors that change nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.learners import assert_same, make_columns, make_config, make_learner, weights
from support.states import flat
from unison.algorithms import PPOLearner
from unison.errors import CheckpointError, ModuleError, OptimizerError, StateError


def full_config() -> Any:
    return make_config(
        lr=[[0, 1e-2], [1000, 0.0]],
        entropy_coeff=[[0, 0.1], [1000, 0.0]],
        use_kl_loss=True,
        minibatch_size=8,
        gradient_accumulation_steps=2,
    )


def train(learner: Any, updates: int, first: int = 0) -> None:
    for number in range(first, first + updates):
        learner.update_from_batch(
            make_columns(40, seed=number),
            minibatch_size=8,
            num_iters=2,
            timesteps={"num_env_steps_sampled_lifetime": 40 * number},
        )


def test_training_2n_equals_training_n_saving_loading_training_n(tmp_path: Path) -> None:
    straight, first, second = (make_learner(full_config()) for _ in range(3))
    train(straight, 8)
    train(first, 4)
    first.save_state(tmp_path / "learner")
    second.load_state(tmp_path / "learner")
    train(second, 4, first=4)
    assert_same(weights(straight), weights(second))
    ours, theirs = straight.get_state(), second.get_state()
    moments = [state["optimizer"]["default_policy"]["default_optimizer"]["moments"] for state in (ours, theirs)]
    for name in moments[0]:
        assert_same(moments[0][name], moments[1][name])
    assert ours["learner"]["counters"] == theirs["learner"]["counters"]
    for name, value in ours["learner"]["coefficients"]["default_policy"].items():
        assert value == theirs["learner"]["coefficients"]["default_policy"][name], name
    rates = [state["optimizer"]["default_policy"]["default_optimizer"]["settings"] for state in (ours, theirs)]
    assert rates[0] == rates[1]


def test_leaves_are_numpy_and_settings_keep_their_types(tmp_path: Path) -> None:
    learner, other = make_learner(full_config()), make_learner(full_config())
    train(learner, 1)
    learner.save_state(tmp_path / "learner")
    other.load_state(tmp_path / "learner")
    for part in (learner.get_state(), other.get_state()):
        slot = part["optimizer"]["default_policy"]["default_optimizer"]
        assert isinstance(slot["settings"][0]["betas"], tuple)
        assert type(slot["settings"][0]["lr"]) is float
        assert slot["settings"][0]["fused"] is None
        for moments in slot["moments"].values():
            assert all(isinstance(value, np.ndarray) for value in moments.values())
        assert all(isinstance(value, np.ndarray) for value in part["rl_module"]["default_policy"].values())


@pytest.mark.parametrize("component", ["rl_module", "optimizer", "learner"])
def test_components_alone(component: str) -> None:
    source, target = make_learner(full_config()), make_learner(full_config())
    train(source, 2)
    part = source.get_state(component)
    assert list(part) == [component]
    before = target.get_state()
    target.set_state(part)
    after = target.get_state()
    changed = {name for name in after if repr(after[name]) != repr(before[name])}
    assert changed == {component}


def test_module_ids_choose_modules() -> None:
    learner = make_learner(module_ids=("a", "b"))
    state = learner.get_state(module_ids=["a"])
    assert list(state["rl_module"]) == list(state["optimizer"]) == ["a"]
    assert list(learner.get_state("rl_module/b")["rl_module"]) == ["b"]
    inference = learner.get_state(inference_only=True)
    assert list(inference) == ["rl_module"]
    assert not any("value" in name for name in inference["rl_module"]["a"])


def test_a_module_moves_to_another_learner_with_its_optimizer() -> None:
    source, target = make_learner(module_ids=("a", "b")), make_learner(module_ids=("x", "b"))
    source.update_from_batch({"a": make_columns(16)}, num_iters=3)
    state = source.get_state(["rl_module", "optimizer"], module_ids=["a"])
    target.set_state({part: {"x": named["a"]} for part, named in state.items()})
    source.update_from_batch({"a": make_columns(16)})
    target.update_from_batch({"x": make_columns(16)})
    for name, value in source.get_module_state(["a"])["a"].items():
        np.testing.assert_array_equal(value, target.get_module_state(["x"])["x"][name])


MISFITS: dict[str, Any] = {
    "unknown component": (lambda s: {"weights": {}}, StateError, "no components"),
    "unknown module": (lambda s: {"rl_module": {"x": {}}}, ModuleError, "no module 'x'"),
    "unknown optimizer": (
        lambda s: {"optimizer": {"default_policy": {"x": s["optimizer"]["default_policy"]["default_optimizer"]}}},
        StateError,
        "no optimizer 'x'",
    ),
    "weights of another shape": (
        lambda s: _change(s, "rl_module", "encoder.layers.0.weight", np.zeros((3, 4), np.float32)),
        StateError,
        r"encoder\.layers\.0\.weight.*\(3, 4\)",
    ),
    "moments of another shape": (
        lambda s: _change_moment(s, "encoder.layers.0.weight", np.zeros((3, 4), np.float32)),
        StateError,
        r"'exp_avg' of parameter 'encoder\.layers\.0\.weight' has shape \(3, 4\)",
    ),
    "a rate that is no number": (lambda s: _change_setting(s, "lr", "x"), StateError, "rate must be a finite number"),
    "a rate below 0": (lambda s: _change_setting(s, "lr", -1.0), StateError, "rate must be a finite number"),
    "betas that are none": (
        lambda s: _change_setting(s, "betas", None),
        StateError,
        "settings that are of no use: betas",
    ),
    "a beta above 1": (lambda s: _change_setting(s, "betas", (0.9, 1.5)), StateError, "settings that are of no use"),
    "one beta": (lambda s: _change_setting(s, "betas", (0.9,)), StateError, r"of no use: betas=\(0.9,\)"),
    "a word for eps": (lambda s: _change_setting(s, "eps", "small"), StateError, "settings that are of no use"),
    "a decay that is NaN": (
        lambda s: _change_setting(s, "weight_decay", float("nan")),
        StateError,
        "settings that are of no use",
    ),
    "an unknown moment": (
        lambda s: _change_moment(s, "value_head.bias", np.zeros(1, np.float32), "zzz"),
        StateError,
        r"'zzz' of parameter 'value_head.bias' must be one of \['step', 'exp_avg', 'exp_avg_sq'\]",
    ),
    "a step that is NaN": (
        lambda s: _change_moment(s, "value_head.bias", np.float32("nan"), "step"),
        StateError,
        "'step' of parameter 'value_head.bias' must be .* a step not negative",
    ),
    "a moment that is infinite": (
        lambda s: _change_moment(s, "value_head.bias", np.full(1, np.inf, np.float32)),
        StateError,
        "'exp_avg' of parameter 'value_head.bias' must be .* finite",
    ),
    "a moment that is a dict": (
        lambda s: _change_moment(s, "value_head.bias", {"a": 1}),
        StateError,
        "'exp_avg' of parameter 'value_head.bias' must be",
    ),
    "an infinite count": (
        lambda s: {**s, "learner": {**s["learner"], "counters": {"num_updates": float("inf")}}},
        StateError,
        "'num_updates' must be finite",
    ),
    "a count below 0": (
        lambda s: {**s, "learner": {**s["learner"], "schedule_step": -1}},
        StateError,
        "schedule_step must be finite, and not below 0",
    ),
    "no part at all": (lambda s: {**s, "learner": None}, StateError, "no state of this Learner"),
    "another optimizer": (lambda s: _change_class(s, "SGD"), StateError, "is Adam, but the state is of SGD"),
}


def _change(state: Any, part: str, name: str, value: Any) -> Any:
    return {**state, part: {"default_policy": {**state[part]["default_policy"], name: value}}}


def _slot(state: Any) -> Any:
    return state["optimizer"]["default_policy"]["default_optimizer"]


def _change_setting(state: Any, name: str, value: Any) -> Any:
    settings = [{**options, name: value} for options in _slot(state)["settings"]]
    return {**state, "optimizer": {"default_policy": {"default_optimizer": {**_slot(state), "settings": settings}}}}


def _change_moment(state: Any, name: str, value: Any, moment: str = "exp_avg") -> Any:
    moments = {**_slot(state)["moments"], name: {**_slot(state)["moments"][name], moment: value}}
    return {**state, "optimizer": {"default_policy": {"default_optimizer": {**_slot(state), "moments": moments}}}}


def _change_class(state: Any, name: str) -> Any:
    return {**state, "optimizer": {"default_policy": {"default_optimizer": {**_slot(state), "class": name}}}}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_named_and_changes_nothing(misfit: str) -> None:
    change, kind, message = MISFITS[misfit]
    source, learner = make_learner(), make_learner()
    source.update_from_batch(make_columns(8))
    before = repr(learner.get_state())
    with pytest.raises(kind, match=message):
        learner.set_state(change(source.get_state()))
    assert repr(learner.get_state()) == before


def test_optimizers_alone_through_files(tmp_path: Path) -> None:
    source, target = make_learner(), make_learner()
    source.update_from_batch(make_columns(16), num_iters=2)
    source._save_optimizers(tmp_path / "optimizers")
    before = weights(target)
    target._load_optimizers(tmp_path / "optimizers")
    assert_same(before, weights(target))
    assert repr(source.get_optimizer_state()) == repr(target.get_optimizer_state())
    with pytest.raises(CheckpointError, match="no modules"):
        target.load_state(tmp_path / "optimizers")


def test_metadata_says_what_is_inside(tmp_path: Path) -> None:
    learner = make_learner(module_ids=("a", "b"))
    learner.update_from_batch({"a": make_columns(8)})
    metadata = learner._get_metadata()
    assert list(metadata["modules"]) == ["a", "b"]
    assert metadata["modules"]["a"]["module_class"] == "actor_critic"
    assert metadata["optimizers"] == {"a": ["default_optimizer"], "b": ["default_optimizer"]}
    assert metadata["counters"]["num_updates"] == 1
    assert metadata["config"]["algorithm_name"] == "ppo"


def test_optimizers_that_step_by_themselves_are_restored(tmp_path: Path) -> None:
    from unison.algorithms import PPOLearner

    class Amsgrad(PPOLearner):
        def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
            params = self.get_parameters(self.module[module_id])
            optimizer = torch.optim.Adam(params, lr=1e-2, amsgrad=True)
            self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params)

    straight, first, second = (make_learner(cls=Amsgrad) for _ in range(3))
    train(straight, 4)
    train(first, 2)
    first.save_state(tmp_path / "learner")
    second.load_state(tmp_path / "learner")
    train(second, 2, first=2)
    assert_same(weights(straight), weights(second))


@pytest.mark.parametrize("settings", ["checkpoint", "config"])
def test_whose_settings_win_is_said_and_what_differs_is_reported(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = make_learner(make_config(lr=1e-2, entropy_coeff=0.5))
    train(saved, 1)
    saved.save_state(tmp_path / "learner")
    learner = make_learner(make_config(lr=1e-3, entropy_coeff=0.25, optimizer={"name": "adam", "eps": 1e-7}))
    differences = learner.load_state(tmp_path / "learner", settings=settings)
    assert differences["training.lr"] == (1e-3, 1e-2)
    assert differences["training.entropy_coeff"] == (0.25, 0.5)
    assert f"training.lr is 0.001 here but 0.01 in the checkpoint; that of the {settings} counts." in caplog.text
    options = learner.get_optimizer().param_groups[0]
    expected = (1e-2, 0.5, 1e-5) if settings == "checkpoint" else (1e-3, 0.25, 1e-7)
    assert (options["lr"], float(learner.coefficients["default_policy"]["entropy_coeff"]), options["eps"]) == expected
    results = learner.update_from_batch(make_columns(8))
    assert results["default_policy"]["default_optimizer_learning_rate"] == pytest.approx(expected[0])
    assert learner.counters["num_updates"] == 2  # progress and moments are the checkpoint's in both cases


def test_settings_of_neither_are_refused(tmp_path: Path) -> None:
    learner = make_learner(full_config())
    learner.save_state(tmp_path / "learner")
    with pytest.raises(StateError, match=r"settings='mine': it is one of \('checkpoint', 'config'\)"):
        learner.load_state(tmp_path / "learner", settings="mine")


class OwnOptimizer(torch.optim.Optimizer):
    """Keeps what it is told to for each parameter, beside its count of steps."""

    def __init__(self, params: Any, kept: Any = None) -> None:
        super().__init__(params, {"lr": 0.1})
        self.kept = kept

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            entries = self.state[parameter]
            entries["count"] = entries.get("count", 0) + 1
            entries["kept"] = self.kept
            parameter.sub_(0.1 ** entries["count"])


def learner_with(make: Any, learner_class: type[PPOLearner] = PPOLearner) -> Any:
    class Registers(learner_class):
        def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
            params = self.get_parameters(self.module[module_id])
            self.register_optimizer(module_id=module_id, optimizer=make(params), params=params, lr_or_lr_schedule=0.1)

    return make_learner(cls=Registers)


@pytest.mark.parametrize("kept", [None, True, 7, 2.5])
def test_what_an_optimizer_keeps_in_python_stays_of_its_type(kept: Any, tmp_path: Path) -> None:
    first, second = (learner_with(lambda params: OwnOptimizer(params, kept)) for _ in range(2))
    train(first, 2)
    train(second, 1)
    stranger = next(iter(second.get_optimizer().state.values()))
    stranger["left from before"] = 1
    first.save_state(tmp_path / "learner")
    second.load_state(tmp_path / "learner")
    count = first.get_optimizer().state[next(first.module.parameters())]["count"]
    for entries in second.get_optimizer().state.values():
        assert entries == {"count": count, "kept": kept}
        assert type(entries["kept"]) is type(kept)
        assert type(entries["count"]) is int
    train(first, 1, first=2)
    train(second, 1, first=2)
    assert_same(weights(first), weights(second))


def test_what_an_optimizer_keeps_is_refused_rather_than_lost() -> None:
    learner = learner_with(lambda params: OwnOptimizer(params, [torch.zeros(3)]))
    train(learner, 1)
    with pytest.raises(StateError, match=r"'default_optimizer' of module 'default_policy' keeps 'kept' .* a list"):
        learner.get_state()


class Half(PPOLearner):
    def _make_module(self) -> Any:
        return super()._make_module().to(torch.bfloat16)


OWN_STEP = ["Adadelta", "Adafactor", "Adamax", "ASGD", "NAdam", "RAdam", "Rprop"]
"""Optimizers that no update rule serves: what they keep is made at their first step."""


def kinds_kept(learner: Any) -> list[Any]:
    state = learner.get_optimizer().state
    return [{k: (v.dtype, v.shape) for k, v in state[p].items()} for p in learner.module.parameters()]


@pytest.mark.parametrize("learner_class", [PPOLearner, Half])
@pytest.mark.parametrize("name", ["Adam", *OWN_STEP])
def test_a_fresh_learner_takes_over_what_any_optimizer_keeps(name: str, learner_class: Any, tmp_path: Path) -> None:
    first, second = (learner_with(getattr(torch.optim, name), learner_class) for _ in range(2))
    assert (next(iter(first.optimizers.slots.values())).rule is None) == (name in OWN_STEP)
    train(first, 2)
    first.save_state(tmp_path / "learner")
    second.load_state(tmp_path / "learner")
    assert kinds_kept(first) == kinds_kept(second)
    for learner in (first, second):
        train(learner, 1, first=2)
    assert_same(flat(first.get_state()), flat(second.get_state()))


def test_an_optimizer_that_steps_otherwise_is_refused(tmp_path: Path) -> None:
    first = learner_with(lambda params: torch.optim.Adam(params, amsgrad=True))
    second = learner_with(lambda params: torch.optim.Adam(params))
    train(first, 1)
    before = flat(second.get_state())
    first.save_state(tmp_path / "learner")
    with pytest.raises(StateError, match="amsgrad=True"):
        second.load_state(tmp_path / "learner")
    assert_same(before, flat(second.get_state()))


def test_a_moment_that_is_missing_is_refused() -> None:
    learner = make_learner(full_config())
    state = learner.get_state("optimizer")
    next(iter(state["optimizer"]["default_policy"]["default_optimizer"]["moments"].values())).pop("exp_avg_sq")
    with pytest.raises(StateError, match=r"lacks \['exp_avg_sq'\] of parameter"):
        learner.set_state(state)


@pytest.mark.parametrize("ask", ["get_state", "set_state", "get_module_state"])
def test_one_id_where_several_are_meant_is_refused(ask: str) -> None:
    learner = make_learner(module_ids=("a", "b"))
    given = {"state": learner.get_state()} if ask == "set_state" else {}
    with pytest.raises(ModuleError, match=r"give a list of ids: \['ab'\]"):
        getattr(learner, ask)(**given, module_ids="ab")


def test_a_state_mends_a_learning_rate_that_went_wrong() -> None:
    learner = make_learner()
    state = learner.get_state()
    learner.get_optimizer().param_groups[0]["lr"] = float("nan")
    with pytest.raises(OptimizerError, match="no learning rate"):
        learner.update_from_batch(make_columns(8))
    learner.set_state(state)
    learner.update_from_batch(make_columns(8))


def test_a_learner_goes_back_also_to_a_coefficient_that_ran_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise TypeError("at the end")

    learner = make_learner(make_config(use_kl_loss=True))
    learner.coefficients["default_policy"]["kl_coeff"].fill_(float("inf"))
    before = repr(learner.get_state())
    with pytest.raises(StateError, match="rate must be a finite number"):
        learner.set_state(_change_setting(learner.get_state(["rl_module", "optimizer"]), "lr", "x"))
    state = make_learner().get_state(["rl_module", "optimizer"])
    with monkeypatch.context() as patch:
        patch.setattr("unison.learner.state.set_rest", fail)
        with pytest.raises(StateError, match=r"no state of this Learner .*at the end"):
            learner.set_state(state)
    assert repr(learner.get_state()) == before
