"""An update equals a plain PyTorch loop, uses each row once per pass, and is applied wholly or not at all."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from support.episodes import make_episode
from support.learners import BOX, assert_same, differ, make_columns, make_config, make_learner, weights
from unison import ALL_MODULES, MultiAgentBatch, SampleBatch
from unison.algorithms import PPOLearner
from unison.errors import BatchError, ModuleError, NonFiniteError
from unison.learner import LOSS_SHARE
from unison.losses import explained_variance


def plain_ppo(learner: Any, columns: dict[str, Any], clip: float, steps: int) -> nn.Module:
    """An independent full-batch PPO loop on a copy of the module: torch.distributions, torch.optim, autograd."""
    import copy

    module = copy.deepcopy(learner.module["default_policy"])
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-4, eps=1e-5)
    t = {name: torch.as_tensor(value) for name, value in columns.items()}
    for _ in range(steps):
        out = module.forward_train({"obs": t["obs"]})
        distribution = torch.distributions.Categorical(logits=out["action_dist_inputs"])
        ratio = (distribution.log_prob(t["actions"]) - t["action_logp"]).exp()
        surrogate = torch.min(ratio * t["advantages"], ratio.clamp(0.8, 1.2) * t["advantages"])
        loss = -surrogate.mean() + 0.5 * (out["vf_preds"] - t["value_targets"]).pow(2).mean()
        loss = loss - 0.01 * distribution.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
    return module


def test_update_equals_a_plain_pytorch_loop() -> None:
    learner = make_learner(make_config(grad_clip=0.1, entropy_coeff=0.01))
    columns = make_columns(32)
    expected = plain_ppo(learner, columns, 0.1, steps=20)
    learner.update_from_batch(columns, num_iters=20)
    for (name, ours), theirs in zip(
        learner.module["default_policy"].named_parameters(), expected.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["mapping", "sample_batch", "multi_agent_batch", "nested", "torch"])
def test_every_kind_of_batch_gives_the_same_update(kind: str) -> None:
    columns = make_columns(16)
    kinds: dict[str, Any] = {
        "mapping": columns,
        "sample_batch": SampleBatch(columns),
        "multi_agent_batch": MultiAgentBatch({"default_policy": columns}, 16),
        "nested": {"default_policy": columns},
        "torch": {name: torch.as_tensor(value) for name, value in columns.items()},
    }
    reference, learner = make_learner(), make_learner()
    reference.update_from_batch(columns)
    learner.update_from_batch(kinds[kind])
    assert_same(weights(reference), weights(learner))


@pytest.mark.parametrize("kind", ["reversed", "foreign byte order", "with gradient", "bfloat16"])
def test_columns_that_torch_or_numpy_take_reluctantly_are_the_same_numbers(kind: str) -> None:
    first, second = make_learner(), make_learner()
    columns = make_columns(8)
    if kind == "bfloat16":
        columns["obs"] = columns["obs"].round()  # which it holds exactly
    change: Any = {
        "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
        "foreign byte order": lambda a: a.astype(a.dtype.newbyteorder("S")),
        "with gradient": lambda a: torch.tensor(a, requires_grad=a.dtype.kind == "f"),
        "bfloat16": lambda a: torch.tensor(a).bfloat16(),
    }[kind]
    changed = {n: change(c) for n, c in columns.items() if kind != "bfloat16" or n == "obs"}
    results = [learner.update_from_batch(batch) for learner, batch in ((first, columns), (second, columns | changed))]
    assert_same(weights(first), weights(second))
    assert results[0][ALL_MODULES]["num_env_steps_trained"] == results[1][ALL_MODULES]["num_env_steps_trained"] == 8


@pytest.mark.parametrize(("rows", "size", "iters"), [(32, 8, 3), (33, 8, 2), (5, 8, 2), (16, None, 2)])
def test_every_row_is_used_once_per_pass(rows: int, size: int | None, iters: int) -> None:
    seen: Counter[float] = Counter()

    class Counting(PPOLearner):
        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            seen.update(batch["value_targets"].tolist())
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

    learner = make_learner(cls=Counting)
    columns = make_columns(rows)
    results = learner.update_from_batch(columns, minibatch_size=size, num_iters=iters)
    assert seen == Counter({float(value): iters for value in columns["value_targets"]})
    assert results[ALL_MODULES]["num_module_steps_trained"] == rows * iters


def test_modules_with_unequal_rows_train_as_if_each_were_alone() -> None:
    both = make_learner(make_config(shuffle_batch_per_epoch=False), module_ids=("a", "b"))
    alone = make_learner(make_config(shuffle_batch_per_epoch=False), module_ids=("b",))
    alone.set_module_state({"b": both.get_module_state(["b"])["b"]})
    long, short = make_columns(40, 1), make_columns(12, 2)
    results = both.update_from_batch({"a": long, "b": short}, minibatch_size=8, num_iters=3)
    alone.update_from_batch({"b": short}, minibatch_size=8, num_iters=3)
    ours = {name: value for name, value in weights(both).items() if name.startswith("b/")}
    for name, value in weights(alone).items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-6, atol=1e-7)
    assert results["a"]["num_module_steps_trained"] == 120
    assert results["b"]["num_module_steps_trained"] == 36


@pytest.mark.parametrize("steps", [2, 4])
def test_accumulated_gradients_equal_those_of_the_larger_minibatch(steps: int) -> None:
    whole = make_learner(make_config(shuffle_batch_per_epoch=False))
    parts = make_learner(make_config(shuffle_batch_per_epoch=False, gradient_accumulation_steps=steps))
    columns = make_columns(38)  # the last minibatch of a pass has fewer rows, and weighs less
    whole.update_from_batch(columns, minibatch_size=8 * steps, num_iters=2)
    parts.update_from_batch(columns, minibatch_size=8, num_iters=2)
    for name, value in weights(whole).items():
        np.testing.assert_allclose(weights(parts)[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


class OwnTotal(PPOLearner):
    """Sums the losses itself, as one who has never heard of shares would."""

    def compute_loss(self, *, fwd_out: Any, batch: Any) -> Any:
        losses: Any = {
            m: self.compute_loss_for_module(
                module_id=m, config=self.config_for_module(m), batch=columns, fwd_out=fwd_out[m]
            )
            for m, columns in batch.items()
        }
        return losses | {ALL_MODULES: sum(losses.values())}


class OtherTotal(PPOLearner):
    """Its total is no sum, and has a term that is none of the losses."""

    def compute_loss(self, *, fwd_out: Any, batch: Any) -> Any:
        losses = super().compute_loss(fwd_out=fwd_out, batch=batch)
        total: Any = sum((2.0 if m == "a" else 1.0) * losses[m] for m in batch)
        for m, columns in batch.items():
            total = total + fwd_out[m]["vf_preds"].square().mean() * columns.get(LOSS_SHARE, 1.0)
        return losses | {ALL_MODULES: total}


class EachAlone(PPOLearner):
    """Differentiates each loss by itself."""

    def compute_gradients(self, loss_per_module: Any) -> Any:
        gradients: Any = {}
        for module_id in (m for m in loss_per_module if m != ALL_MODULES):
            parameters = self.get_parameters(self.module[module_id])
            found = torch.autograd.grad(loss_per_module[module_id], parameters)
            gradients |= {self.get_param_ref(p): g for p, g in zip(parameters, found, strict=True)}
        return gradients


@pytest.mark.parametrize("engine", ["eager", "xla"])
@pytest.mark.parametrize("cls", [OwnTotal, OtherTotal, EachAlone])
def test_losses_weigh_by_their_rows_whoever_sums_them_up(cls: type[PPOLearner], engine: str) -> None:
    if engine == "xla":
        pytest.importorskip("jax")
    settings = make_config(shuffle_batch_per_epoch=False)
    whole = make_learner(settings, cls=cls, module_ids=("a", "b"))
    in_parts = settings.copy().training(gradient_accumulation_steps=3).framework(engine=engine)
    parts = make_learner(in_parts, cls=cls, module_ids=("a", "b"))
    batch = {"a": make_columns(24, 1), "b": make_columns(9, 2)}
    whole.update_from_batch(batch, minibatch_size=24, num_iters=2)
    results = parts.update_from_batch(batch, minibatch_size=8, num_iters=2)
    assert results[ALL_MODULES]["engine"] == engine
    for name, value in weights(whole).items():
        np.testing.assert_allclose(weights(parts)[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("told", [torch.Tensor.detach, torch.Tensor.item])
def test_a_loss_that_can_not_be_weighed_is_refused(told: Any) -> None:
    class Detached(PPOLearner):
        def compute_loss(self, *, fwd_out: Any, batch: Any) -> Any:
            losses = super().compute_loss(fwd_out=fwd_out, batch=batch)
            return {m: loss if m == ALL_MODULES else told(loss) for m, loss in losses.items()}

    make_learner(cls=Detached).update_from_batch(make_columns(8))  # Here a minibatch is the whole step.
    learner = make_learner(make_config(gradient_accumulation_steps=2), cls=Detached)
    before = weights(learner)
    with pytest.raises(ModuleError, match="'default_policy': compute_loss returned its loss detached"):
        learner.update_from_batch(make_columns(8), minibatch_size=4)
    assert_same(before, weights(learner))


def test_frozen_modules_stay_bit_identical() -> None:
    config = make_config().multi_agent(policies={"a", "b"}, policies_to_train=["a"])
    learner = make_learner(config, module_ids=("a", "b"))
    before = weights(learner)
    results = learner.update_from_batch({"a": make_columns(16), "b": make_columns(16)}, num_iters=3)
    assert {name.split("/")[0] for name in differ(before, weights(learner))} == {"a"}
    assert "b" not in results


@pytest.mark.parametrize("source", ["batch", "episodes"])
def test_a_rule_of_what_trains_is_asked_once_for_each_module(source: str) -> None:
    """Else one that draws would be asked until it says no."""
    asked: list[str] = []
    config = make_config().multi_agent(
        policies={"a", "b"}, policies_to_train=lambda module_id, batch: asked.append(module_id) is None
    )
    learner = make_learner(config, module_ids=("a", "b"))
    if source == "batch":
        learner.update_from_batch({"a": make_columns(4), "b": make_columns(4)})
    else:
        learner.update_from_episodes([make_episode(8, 0, module_id=module_id) for module_id in "ab"])
    assert sorted(asked) == ["a", "b"]


BAD_BATCHES: dict[str, tuple[Any, str]] = {
    "unknown module": ({"other": make_columns(4)}, "module 'other', which is unknown"),
    "misspelt": (
        {"observations": np.zeros((4, 4), np.float32), "action": np.zeros(4, np.int64)},
        "Did you mean 'obs' by 'observations'.*'actions' by 'action'",
    ),
    "missing column": ({"obs": np.zeros((4, 4), np.float32)}, "lacks the columns"),
    "unequal lengths": ({**make_columns(8), "advantages": np.zeros(7, np.float32)}, "'advantages' has 7 rows"),
    "wrong shape": ({**make_columns(8), "obs": np.zeros((8, 5), np.float32)}, r"'obs' has shape \(8, 5\)"),
    "wrong dtype": ({**make_columns(8), "actions": np.zeros(8, np.float32)}, "'actions' has dtype torch.float32"),
    "wrong shape in the loss": (
        {**make_columns(8), "advantages": np.zeros((8, 1), np.float32)},
        r"Module 'default_policy': clipped_surrogate: 'advantages' is \[8, 1\]",
    ),
    "too many old logits": (
        {**make_columns(8), "action_dist_inputs": np.zeros((8, 9), np.float32)},
        r"Module 'default_policy': column 'action_dist_inputs' has shape \[8, 9\]",
    ),
    "strings": ({**make_columns(2), "obs": np.array(["a", "b"])}, "'obs' holds objects or strings"),
    "empty": ({name: value[:0] for name, value in make_columns(1).items()}, "empty"),
    "no batch": ([1, 2], "not list"),
}


@pytest.mark.parametrize("fault", BAD_BATCHES)
def test_bad_batches_are_named_and_change_nothing(fault: str) -> None:
    batch, message = BAD_BATCHES[fault]
    learner = make_learner()
    before, rng = weights(learner), learner.generator.get_state().clone()
    with pytest.raises(BatchError, match=message):
        learner.update_from_batch(batch)
    assert_same(before, weights(learner))
    assert torch.equal(rng, learner.generator.get_state())


@pytest.mark.parametrize("number", [32.0, float("nan"), "8", True, 0, -1, np.float32(8)])
@pytest.mark.parametrize("name", ["minibatch_size", "num_iters"])
def test_what_counts_no_rows_or_passes_is_refused(name: str, number: Any) -> None:
    learner = make_learner()
    before = weights(learner)
    with pytest.raises(BatchError, match=rf"{name} is {re.escape(repr(number))}; give an integer of at least 1"):
        learner.update_from_batch(make_columns(32), **{name: number})
    assert_same(before, weights(learner))


def test_counts_may_be_of_numpy() -> None:
    first, second = make_learner(), make_learner()
    first.update_from_batch(make_columns(32), minibatch_size=8, num_iters=2)
    second.update_from_batch(make_columns(32), minibatch_size=np.int64(8), num_iters=np.int32(2))
    assert_same(weights(first), weights(second))


def test_an_error_in_the_middle_of_an_update_leaves_no_trace() -> None:
    class Failing(PPOLearner):
        calls = 0

        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            self.calls += 1
            if self.calls == 6:
                raise RuntimeError("from user code")
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

    learner = make_learner(cls=Failing)
    columns = make_columns(32)
    learner.update_from_batch(columns)
    before = learner.get_state()
    with pytest.raises(RuntimeError, match="from user code"):
        learner.update_from_batch(columns, minibatch_size=4, num_iters=3)
    after = learner.get_state()
    assert_same(before["rl_module"]["default_policy"], after["rl_module"]["default_policy"])
    moments = [state["optimizer"]["default_policy"]["default_optimizer"]["moments"] for state in (before, after)]
    for name in moments[0]:
        assert_same(moments[0][name], moments[1][name])
    assert before["learner"]["counters"] == after["learner"]["counters"]
    np.testing.assert_array_equal(before["learner"]["generator"], after["learner"]["generator"])


def test_gradients_that_a_failed_update_had_set_aside_are_forgotten() -> None:
    class Failing(PPOLearner):
        calls = 0

        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            self.calls += 1
            if self.calls == 2:  # the first minibatch of the step was set aside
                raise RuntimeError("from user code")
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

    config = make_config(gradient_accumulation_steps=2)
    learner, twin = make_learner(config, cls=Failing), make_learner(config)
    with pytest.raises(RuntimeError, match="from user code"):
        learner.update_from_batch(make_columns(8), minibatch_size=4)
    for each in (learner, twin):
        each.update_from_batch(make_columns(8), minibatch_size=4)
    assert_same(weights(twin), weights(learner))


@pytest.mark.parametrize("action_space", [BOX], ids=["box"])
def test_continuous_actions_train(action_space: Any) -> None:
    learner = make_learner(action_space=action_space)
    before = weights(learner)
    learner.update_from_batch(make_columns(16, action_space=action_space))
    assert differ(before, weights(learner)) == set(before)


class TestNonFinite:
    """nan_policy: caught before the step, named, and skipped, zeroed or raised."""

    def poisoned(self, rows: int = 8) -> dict[str, Any]:
        columns = make_columns(rows)
        columns["value_targets"][0] = np.nan  # reaches the value branch alone
        return columns

    def test_skip_leaves_the_step_out_and_counts_it(self) -> None:
        learner = make_learner(make_config(nan_policy="skip"))
        before = weights(learner)
        results = learner.update_from_batch(self.poisoned())
        assert_same(before, weights(learner))
        assert results[ALL_MODULES]["num_non_finite_steps"] == 1
        assert "default_policy/" in results["default_policy"]["non_finite_parameters"]
        step = learner.get_optimizer_state()["default_policy"]["default_optimizer"]["moments"]
        assert all(value["step"] == 0 for value in step.values())

    def test_only_the_bad_steps_are_skipped(self) -> None:
        learner = make_learner(make_config(nan_policy="skip", shuffle_batch_per_epoch=False))
        good = make_learner(make_config(shuffle_batch_per_epoch=False))
        columns = self.poisoned(16)
        results = learner.update_from_batch(columns, minibatch_size=8)
        good.update_from_batch({name: value[8:] for name, value in columns.items()})
        assert results[ALL_MODULES]["num_non_finite_steps"] == 1
        assert_same(weights(good), weights(learner))

    def test_finite_steps_after_a_bad_one_blame_nothing_else(self) -> None:
        learner = make_learner(make_config(nan_policy="skip", shuffle_batch_per_epoch=False))
        alone = learner.update_from_batch(self.poisoned(8))["default_policy"]["non_finite_parameters"]
        followed = learner.update_from_batch(self.poisoned(16), minibatch_size=8)
        assert followed["default_policy"]["non_finite_parameters"] == alone != ""

    def test_each_update_counts_its_own_bad_steps(self) -> None:
        learner = make_learner(make_config(nan_policy="skip"))
        counts = [
            learner.update_from_batch(columns)[ALL_MODULES]["num_non_finite_steps"]
            for columns in (self.poisoned(), self.poisoned(), make_columns(8))
        ]
        assert counts == [1, 1, 0]

    def test_zero_moves_what_is_finite(self) -> None:
        # By value, for a norm over NaNs would poison the finite entries too.
        learner = make_learner(make_config(nan_policy="zero", grad_clip=None))
        before = weights(learner)
        results = learner.update_from_batch(self.poisoned())
        moved = differ(before, weights(learner))
        assert moved
        assert all(np.isfinite(value).all() for value in weights(learner).values())
        assert results[ALL_MODULES]["num_non_finite_steps"] == 1

    def test_raise_names_the_parameters_and_undoes_the_update(self) -> None:
        learner = make_learner(make_config(nan_policy="raise"))
        before = weights(learner)
        with pytest.raises(NonFiniteError, match=r"default_policy/.*NaN or infinity in \['value_targets'\].*undone"):
            learner.update_from_batch(self.poisoned(16), minibatch_size=4, num_iters=2)
        assert_same(before, weights(learner))

    def test_the_warning_names_the_columns(self, caplog: pytest.LogCaptureFixture) -> None:
        columns = self.poisoned()
        columns["obs"][3, 1] = np.inf
        make_learner(make_config(nan_policy="skip")).update_from_batch(columns)
        assert "the batch holds NaN or infinity in ['obs', 'value_targets']." in caplog.text

    def test_a_finite_batch_is_not_blamed(self, caplog: pytest.LogCaptureFixture) -> None:
        learner = make_learner(make_config(nan_policy="skip"))
        with torch.no_grad():
            next(learner.module["default_policy"].parameters())[0] = np.nan
        learner.update_from_batch(make_columns(8))
        assert "gradients that are not finite" in caplog.text
        assert "the batch holds" not in caplog.text


def test_results_are_plain_floats_and_strings() -> None:
    results = make_learner().update_from_batch(make_columns(8))
    assert {type(value) for values in results.values() for value in values.values()} == {float, str}
    assert results[ALL_MODULES]["num_updates"] == 1
    assert results[ALL_MODULES]["num_env_steps_trained"] == 8


def test_results_hold_what_the_contract_lists() -> None:
    results = make_learner().update_from_batch(make_columns(16), minibatch_size=8, num_iters=2)
    module = results["default_policy"]
    assert {
        "total_loss", "policy_loss", "vf_loss", "entropy", "mean_kl_loss", "vf_explained_var",
        "gradients_default_optimizer_global_norm", "default_optimizer_learning_rate", "num_module_steps_trained",
        "curr_entropy_coeff", "curr_kl_coeff",
    } <= module.keys()  # fmt: skip
    assert all(type(value) is float for value in module.values())
    everything = results[ALL_MODULES]
    assert everything["num_env_steps_trained"] == 32
    assert everything["num_updates"] == 1
    assert everything["engine"] == "eager"
    assert everything["num_non_finite_steps"] == 0


def test_the_explained_variance_is_of_all_rows_of_the_last_pass() -> None:
    columns = make_columns(20) | {"value_targets": np.linspace(5, 9, 20, dtype=np.float32)}
    learner = make_learner(make_config(lr=0.0))
    values = learner.module["default_policy"].forward_train({"obs": torch.as_tensor(columns["obs"])})["vf_preds"]
    expected = explained_variance(torch.as_tensor(columns["value_targets"]), values).item()
    results = learner.update_from_batch(columns, minibatch_size=3, num_iters=2)["default_policy"]
    assert results["vf_explained_var"] == pytest.approx(expected, rel=1e-4)
    assert not [name for name in results if "squared" in name]
    results = learner.update_from_batch(columns | {"value_targets": np.full(20, 0.3, np.float32)})["default_policy"]
    assert results["vf_explained_var"] == 0


def test_one_copy_to_the_host_per_update(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[str] = []
    for name in ("item", "tolist", "numpy", "__float__", "__bool__"):
        method = getattr(torch.Tensor, name)

        def counted(self: torch.Tensor, *args: Any, _method: Any = method, _name: str = name) -> Any:
            copies.append(_name)
            return _method(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    learner = make_learner()
    columns = make_columns(64)
    learner.update_from_batch(columns)
    copies.clear()
    learner.update_from_batch(columns, minibatch_size=8, num_iters=4)
    assert copies == ["tolist"]


@pytest.mark.parametrize(
    "timesteps",
    [100, "x", {}, {"num_env_steps_sampled": 50}]
    + [{"num_env_steps_sampled_lifetime": count} for count in ("x", None, float("nan"), float("inf"), -1)],
)
def test_timesteps_without_the_count_that_schedules_go_by_are_refused(timesteps: Any) -> None:
    learner = make_learner(make_config(lr=[[0, 0.1], [100, 0.0]]))
    with pytest.raises(BatchError, match=r"^timesteps is .*; give \{'num_env_steps_sampled_lifetime': \.\.\.\}"):
        learner.update_from_batch(make_columns(8), timesteps=timesteps)
    assert learner.counters["num_updates"] == 0


def test_timesteps_may_hold_more_for_hooks() -> None:
    learner = make_learner()
    counts = {"num_env_steps_sampled_lifetime": np.int64(3), "num_episodes": "many"}
    assert learner.update_from_batch(make_columns(8), timesteps=counts)[ALL_MODULES]["num_updates"] == 1


@pytest.mark.parametrize("rule", [lambda module_id: True, lambda module_id, batch: np.ones(2)])
def test_a_rule_of_what_trains_that_raises_is_named(rule: Any) -> None:
    learner = make_learner(make_config().multi_agent(policies_to_train=rule))
    with pytest.raises(ModuleError, match=r"policies_to_train\('default_policy', batch\) raised \w+Error: .* It takes"):
        learner.update_from_batch(make_columns(8))
