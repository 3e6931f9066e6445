"""Checkpoints carry their own modules, load in part and under other ids, and change nothing where they don't fit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config, make_learner, weights
from unison import MultiAgentRLModule, MultiAgentRLModuleSpec, SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner
from unison.checkpoint import read_checkpoint, write_checkpoint
from unison.errors import CheckpointError, ModuleError, OptimizerError, StateError
from unison.modules import ActorCritic

SPEC = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (5,)})


class Unregistered(ActorCritic):
    """A class that only the user knows."""


class SharedEncoder(MultiAgentRLModule):
    """Both modules see through one encoder."""

    def setup(self) -> None:
        self["b"].encoder = self["a"].encoder


def grown(seed: int = 0) -> Any:
    """A Learner that began with "a" and "b", lost "b", and got "c" with settings of its own, all trained."""
    learner = make_learner(make_config(lr=1e-3), module_ids=("a", "b"))
    learner.update_from_batch({"a": make_columns(16, seed), "b": make_columns(16, seed)})
    learner.remove_module("b")
    learner.add_module(
        module_id="c",
        module_spec=SPEC,
        config_overrides={"lr": [[0, 0.02], [1000, 0.0]], "clip_param": 0.1},
        new_should_module_be_updated=["c"],
    )
    learner.update_from_batch({"a": make_columns(16, seed), "c": make_columns(16, seed)}, num_iters=2)
    return learner


def shared_learner(*, ties: bool = True, module_ids: tuple[str, ...] = ("a", "b")) -> Any:
    """A Learner of modules that share an encoder, or look alike and share nothing."""
    spec = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (8,)})
    marl_class = SharedEncoder if ties else MultiAgentRLModule
    specs = MultiAgentRLModuleSpec(marl_module_class=marl_class, module_specs=dict.fromkeys(module_ids, spec))
    learner = PPOLearner(config=make_config().multi_agent(policies=set(module_ids)), module_spec=specs)
    learner.build()
    return learner


def everything(learner: Any) -> str:
    """All that a Learner is, as text; numpy prints every number of arrays this small."""
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
        said = learner._get_metadata()
        return repr((learner.get_state(), said["modules"], said["optimizers"], learner.should_update))


def test_a_checkpoint_brings_the_modules_that_were_added_and_lacks_those_that_were_removed(tmp_path: Path) -> None:
    learner, fresh = grown(), make_learner(make_config(lr=1e-3), module_ids=("a", "b"))
    learner.save_state(tmp_path / "c")
    fresh.load_state(tmp_path / "c")
    assert list(fresh.module) == ["a", "c"]
    assert everything(fresh) == everything(learner)
    config = fresh.config_for_module("c")
    assert (config.lr, config.clip_param) == (((0, 0.02), (1000, 0.0)), 0.1)
    assert (fresh.should_module_be_updated("a"), fresh.should_module_be_updated("c")) == (False, True)
    for each in (learner, fresh):
        timesteps = {"num_env_steps_sampled_lifetime": 500}
        results = each.update_from_batch(
            {"a": make_columns(16, 1), "c": make_columns(16, 1)}, timesteps=timesteps, num_iters=2
        )
        assert results["c"]["default_optimizer_learning_rate"] == pytest.approx(0.01936)
        assert each.get_optimizer("c").param_groups[0]["lr"] == pytest.approx(0.01)
    assert_same(weights(learner), weights(fresh))
    fresh.add_module(module_id="d", module_spec=SPEC, config_overrides={"lr": [[0, 1.0], [1000, 0.0]]})
    assert fresh.get_optimizer("d").param_groups[0]["lr"] == pytest.approx(0.5), "schedules stand where they stood"


def test_in_a_new_process_that_was_told_nothing(tmp_path: Path) -> None:
    learner = grown()
    learner.save_state(tmp_path / "c")
    script = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "import json; from support.learners import make_config, make_learner, weights\n"
        "learner = make_learner(make_config(lr=1e-3)); learner.load_state(sys.argv[2])\n"
        "print(json.dumps({name: float(value.astype('float64').sum()) for name, value in weights(learner).items()}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parents[2]), str(tmp_path / "c")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    sums = {name: float(value.astype(np.float64).sum()) for name, value in weights(learner).items()}
    assert json.loads(done.stdout.splitlines()[-1]) == sums


def test_a_class_that_is_not_registered_is_given_or_asked_for(tmp_path: Path) -> None:
    learner, fresh = make_learner(), make_learner()
    spec = SingleAgentRLModuleSpec(Unregistered, OBS, DISCRETE, {"hidden_sizes": (5,)})
    learner.add_module(module_id="mine", module_spec=spec)
    learner.save_state(tmp_path / "c")
    before = everything(fresh)
    with pytest.raises(CheckpointError, match=r"module 'mine'.*Unregistered, which is not registered here"):
        fresh.load_state(tmp_path / "c")
    with pytest.raises(ModuleError, match=r"module_classes names \['mein'\], but .* gives are .*'mine'"):
        fresh.load_state(tmp_path / "c", module_classes={"mein": Unregistered})
    assert everything(fresh) == before
    fresh.load_state(tmp_path / "c", module_classes={"mine": Unregistered})
    assert type(fresh.module["mine"]) is Unregistered
    assert_same(weights(learner), weights(fresh))


def test_some_modules_with_their_optimizers_and_nothing_else(tmp_path: Path) -> None:
    learner, other = grown(), make_learner(module_ids=("a", "x"))
    learner.save_state(tmp_path / "c")
    other.update_from_batch({"a": make_columns(8), "x": make_columns(8)})
    before = other.get_state()
    other.load_state(tmp_path / "c", module_ids=["a"])
    after = other.get_state()
    assert_same(learner.get_module_state()["a"], after["rl_module"]["a"])
    assert repr(after["optimizer"]["a"]) == repr(learner.get_optimizer_state()["a"])
    for part in ("rl_module", "optimizer"):
        assert repr(after[part]["x"]) == repr(before[part]["x"])
    assert repr(after["learner"]["counters"]) == repr(before["learner"]["counters"])
    assert list(other.module) == ["a", "x"]
    with pytest.raises(ModuleError, match=r"holds no modules \['b'\]; it holds \['a', 'c'\]"):
        other.load_state(tmp_path / "c", module_ids=["b"])


@pytest.mark.parametrize("through_file", [True, False])
def test_a_module_moves_under_another_id_in_one_call(through_file: bool, tmp_path: Path) -> None:
    source, target = make_learner(module_ids=("a", "b")), make_learner(module_ids=("x", "b"))
    source.update_from_batch({"a": make_columns(16)}, num_iters=3)
    untouched = target.get_module_state(["b"])["b"]
    if through_file:
        source.save_state(tmp_path / "c")
        target.load_state(tmp_path / "c", module_ids={"a": "x"})
    else:
        target.set_state(source.get_state(module_ids=["a"]), module_ids={"a": "x"})
    source.update_from_batch({"a": make_columns(16)})
    target.update_from_batch({"x": make_columns(16)})
    assert_same(source.get_module_state(["a"])["a"], target.get_module_state(["x"])["x"])
    assert_same(untouched, target.get_module_state(["b"])["b"])


def test_a_module_that_is_missing_is_added_under_its_new_id(tmp_path: Path) -> None:
    source, target = grown(), make_learner(module_ids=("a", "b"))
    source.save_state(tmp_path / "c")
    target.load_state(tmp_path / "c", module_ids={"c": "opponent"})
    assert sorted(target.module) == ["a", "b", "opponent"]
    assert_same(source.get_module_state(["c"])["c"], target.get_module_state(["opponent"])["opponent"])
    assert target.config_for_module("opponent").clip_param == 0.1
    moments = [s.get_optimizer_state()[m] for s, m in ((source, "c"), (target, "opponent"))]
    assert repr(moments[0]) == repr(moments[1])
    target.load_state(tmp_path / "c", module_ids={"c": "second"}, components=["rl_module"])
    assert_same(source.get_module_state(["c"])["c"], target.get_module_state(["second"])["second"])
    with pytest.raises(ModuleError, match="two modules one id"):
        target.load_state(tmp_path / "c", module_ids={"a": "x", "c": "x"})
    assert "x" not in target.module


def test_components_of_a_checkpoint(tmp_path: Path) -> None:
    source, target = make_learner(), make_learner()
    source.update_from_batch(make_columns(16), num_iters=2)
    source.save_state(tmp_path / "c")
    optimizer = repr(target.get_optimizer_state())
    target.load_state(tmp_path / "c", components=["rl_module"])
    assert_same(weights(source), weights(target))
    assert repr(target.get_optimizer_state()) == optimizer
    target.load_state(tmp_path / "c", components=["optimizer"])
    assert repr(target.get_optimizer_state()) == repr(source.get_optimizer_state())
    with pytest.raises(StateError, match=r"no components \['weights'\]"):
        target.load_state(tmp_path / "c", components=["weights"])
    with pytest.raises(StateError, match=r"components='rl_module' is a string; give a list: \['rl_module'\]"):
        target.load_state(tmp_path / "c", components="rl_module")
    with pytest.raises(ModuleError, match=r"module_ids='a' is a string; give a list of ids: \['a'\]"):
        target.load_state(tmp_path / "c", module_ids="a")


def test_a_module_with_a_shared_encoder_loads_alone_with_all_of_its_optimizer(tmp_path: Path) -> None:
    source, alone, elsewhere = shared_learner(), shared_learner(ties=False, module_ids=("b",)), shared_learner()
    source.update_from_batch({"a": make_columns(16), "b": make_columns(16, 1)}, num_iters=2)
    source.save_state(tmp_path / "c")
    for load in (
        lambda: alone.load_state(tmp_path / "c", module_ids=["b"]),
        lambda: alone.set_state(source.get_state(module_ids=["b"])),
    ):
        load()
        expected = {name: value.detach().numpy() for name, value in source.module["b"].named_parameters()}
        assert_same(expected, {name: value.detach().numpy() for name, value in alone.module["b"].named_parameters()})
        moments = alone.get_optimizer_state()["b"]["default_optimizer"]["moments"]
        owner = source.get_optimizer_state()["a"]["shared"]["moments"]
        name = "encoder.layers.0.weight"
        assert_same(owner[name], moments[name])
        alone.update_from_batch({"b": make_columns(16, 2)})
    elsewhere.load_state(tmp_path / "c", module_ids=["a"])
    assert str(elsewhere.get_optimizer_state()["a"]) == str(source.get_optimizer_state()["a"])
    first = shared_learner(ties=False, module_ids=("a",))
    first.load_state(tmp_path / "c", module_ids=["a"])
    moments = first.get_optimizer_state()["a"]["default_optimizer"]["moments"]
    assert_same(owner[name], moments[name])
    elsewhere.load_state(tmp_path / "c", module_ids=["b"])  # What it shares is the optimizer's of "a" there.
    assert elsewhere.module["a"].encoder is elsewhere.module["b"].encoder
    elsewhere.load_state(tmp_path / "c")
    assert everything(elsewhere) == everything(source)


def test_modules_that_share_something_else_are_refused(tmp_path: Path) -> None:
    tied, untied = shared_learner(), shared_learner(ties=False)
    for source, target in ((tied, untied), (untied, tied)):
        source.save_state(tmp_path / "c")
        before = everything(target)
        with pytest.raises(StateError, match=r"encoder\.layers\.0\.weight' of module 'b' is .*same marl_module_class"):
            target.load_state(tmp_path / "c")
        assert everything(target) == before


def test_modules_that_share_layers_make_way_for_those_of_the_checkpoint(tmp_path: Path) -> None:
    shared_learner(module_ids=("c", "d"), ties=False).save_state(tmp_path / "c")
    learner = shared_learner()
    learner.load_state(tmp_path / "c")
    assert list(learner.module) == ["c", "d"]
    assert {module_id for module_id, _ in learner.optimizers.slots} == {"c", "d"}


class LaterOwner(PPOLearner):
    """The encoder that "a" and "b" share is moved by an optimizer of "b"."""

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        named = self.module[module_id].named_parameters()
        params = [p for name, p in named if module_id == "b" or not name.startswith("encoder")]
        self.register_optimizer(module_id=module_id, optimizer=torch.optim.Adam(params), params=params)


def test_a_module_that_cannot_go_is_noticed_before_anything_changes(tmp_path: Path) -> None:
    spec = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (8,)})
    learners: list[Any] = []
    for ids, marl_class in ((("a",), MultiAgentRLModule), (("a", "b"), SharedEncoder)):
        specs = MultiAgentRLModuleSpec(marl_module_class=marl_class, module_specs=dict.fromkeys(ids, spec))
        learners.append(LaterOwner(config=make_config().multi_agent(policies=set(ids)), module_spec=specs))
        learners[-1].build()
    alone, both = learners
    alone.update_from_batch({"a": make_columns(8)})
    alone.save_state(tmp_path / "c")
    before = everything(both)
    with pytest.raises(OptimizerError, match="Module 'b' owns the optimizer of parameters that other modules share"):
        both.load_state(tmp_path / "c")
    assert everything(both) == before


def test_a_schedule_here_counts_whatever_the_checkpoint_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_learner(make_config(lr=[[0, 1e-2], [1000, 1e-4]], entropy_coeff=0.25)).save_state(tmp_path / "c")
    learner = make_learner(make_config(lr=[[0, 1e-3], [1000, 1e-3], [1001, 1e-5]], entropy_coeff=0.5))
    learner.load_state(tmp_path / "c")
    said = {record.getMessage().partition(" ")[0]: record.getMessage() for record in caplog.records}
    assert said["training.lr"].endswith("; the schedule here counts from the next update on.")
    assert said["training.entropy_coeff"].endswith("; that of the checkpoint counts.")
    assert learner._get_optimizer_lr(learner.get_optimizer()) == 1e-2
    learner.update_from_batch(make_columns(8))
    assert learner._get_optimizer_lr(learner.get_optimizer()) == 1e-3
    assert float(learner.coefficients["default_policy"]["entropy_coeff"]) == 0.25


def test_an_optimizer_without_a_state_is_refused(tmp_path: Path) -> None:
    class Two(PPOLearner):
        def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
            params = self.get_parameters(self.module[module_id])
            for name, some in (("default_optimizer", params[:2]), ("rest", params[2:])):
                self.register_optimizer(
                    module_id=module_id, optimizer_name=name, optimizer=torch.optim.Adam(some), params=some
                )

    source, target = make_learner(), make_learner(cls=Two)
    source.save_state(tmp_path / "c")
    before = everything(target)
    with pytest.raises(StateError, match=r"unknown parameters|not the optimizers \['default_policy/rest'\]"):
        target.load_state(tmp_path / "c")
    assert everything(target) == before
    target.load_state(tmp_path / "c", components=["rl_module"])
    assert_same(weights(source), weights(target))


def _weight(parts: Any) -> None:
    parts["modules/a"] = {**parts["modules/a"], "policy_head.bias": np.zeros((9, 9), np.float32)}


def _moment(parts: Any) -> None:
    slot = parts["optimizers/a/default_optimizer"]
    name = next(iter(slot["moments"]))
    slot["moments"][name] = {**slot["moments"][name], "exp_avg": np.zeros((9, 9), np.float32)}


def _optimizer(parts: Any) -> None:
    del parts["optimizers/a/default_optimizer"]


def _generator(parts: Any) -> None:
    parts["learner"]["generator"] = np.zeros(3, np.uint8)


def _coefficient(parts: Any) -> None:
    parts["learner"]["coefficients"]["a"] = {"entropy_coeff": np.zeros(2)}


def _strange_coefficient(parts: Any) -> None:
    parts["learner"]["coefficients"]["a"] = {"alpha": np.zeros(())}


def _counter(parts: Any) -> None:
    parts["learner"]["counters"]["num_updates"] = "many"


@pytest.mark.parametrize("holder", ["learner", "group"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_weight, r"'policy_head\.bias'.*\(9, 9\)"),
        (_moment, r"'exp_avg' of parameter .* has shape \(9, 9\)"),
        (_optimizer, r"not the optimizers \['a/default_optimizer'\]"),
        (_generator, "generator"),
        (_coefficient, "coefficient 'entropy_coeff' of module 'a' must be a number"),
        (_strange_coefficient, r"no coefficients \['alpha'\]"),
        (_counter, "counter 'num_updates' must be a number"),
    ],
)
def test_a_checkpoint_that_does_not_fit_changes_nothing(spoil: Any, message: str, holder: str, tmp_path: Path) -> None:
    """Whatever part it is that does not fit, and though a module would have to be added first."""
    grown().save_state(tmp_path / "c")
    checkpoint = read_checkpoint(tmp_path / "c")
    spoil(checkpoint.parts)
    write_checkpoint(tmp_path / "c", checkpoint.parts, checkpoint.metadata)
    if holder == "learner":
        target: Any = make_learner(make_config(lr=1e-3), module_ids=("a", "b"))
        learner = target
    else:
        config = make_config(lr=1e-3).multi_agent(policies={"a", "b"})
        target = config.build_learner_group(spaces=dict.fromkeys(("a", "b"), (OBS, DISCRETE)))
        (learner,) = target.foreach_learner(lambda learner: learner)
    target.update_from_batch({"a": make_columns(8), "b": make_columns(8)})
    before, random = everything(learner), torch.get_rng_state()
    with pytest.raises(StateError, match=message):
        target.load_state(tmp_path / "c")
    assert everything(learner) == before
    assert torch.equal(torch.get_rng_state(), random)


def test_another_architecture_is_told_by_module_parameter_and_shapes(tmp_path: Path) -> None:
    make_learner(make_config().rl_module(model_config={"hidden_sizes": (16,)})).save_state(tmp_path / "wide")
    small = make_learner(make_config().rl_module(model_config={"hidden_sizes": (4,)}))
    before = everything(small)
    message = r"^Module 'default_policy': .*'\S+' has shape \(4, 4\), .* \(16, 4\).*model_config"
    with pytest.raises(StateError, match=message):
        small.load_state(tmp_path / "wide")
    assert everything(small) == before
