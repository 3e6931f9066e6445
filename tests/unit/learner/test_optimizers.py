"""Registering, finding and stepping optimizers: any of torch.optim's, flat or by their own step."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from support.learners import assert_same, make_columns, make_config, make_learner, weights
from unison.algorithms import PPOLearner
from unison.errors import ConfigError, OptimizerError
from unison.learner.flat_group import FlatGroup
from unison.learner.update_rules import rule_for

OPTIMIZERS: dict[str, Any] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, eps=1e-5),
    "adam with decay": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, betas=(0.8, 0.9)),
    "adam with decoupled decay": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1, decoupled_weight_decay=True),
    "adam_without_momentum": lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.0, 0.9)),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2),
    "sgd with momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2),
    "rmsprop with momentum": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "amsgrad (own step)": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "adagrad (own step)": lambda p: torch.optim.Adagrad(p, lr=1e-2),
}


def with_optimizer(make: Any) -> type[PPOLearner]:
    class Learner(PPOLearner):
        def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
            params = self.get_parameters(self.module[module_id])
            self.register_optimizer(module_id=module_id, optimizer=make(params), params=params)

    return Learner


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "traceable"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_those_of_torch(name: str, fused: bool) -> None:
    torch.manual_seed(0)
    ours = [
        torch.nn.Parameter(torch.randn(3, 2)),
        torch.nn.Parameter(torch.randn(5)),
        torch.nn.Parameter(torch.ones(())),
    ]
    theirs = copy.deepcopy(ours)
    optimizer, reference = OPTIMIZERS[name](ours), OPTIMIZERS[name](theirs)
    rule, reason = rule_for(optimizer)
    if rule is None:
        assert "own step" in name
        assert reason
        return
    group = FlatGroup(optimizer, 0, {str(i): p for i, p in enumerate(ours)}, rule)
    for _ in range(10):
        gradients = [torch.randn_like(p) for p in theirs]
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = g
        reference.step()
        group.write({str(i): g for i, g in enumerate(gradients)})
        group.step(torch.zeros(()), set(), fused=fused)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    moments = {k for k in reference.state[theirs[0]] if isinstance(reference.state[theirs[0]][k], torch.Tensor)}
    for p, q in zip(ours, theirs, strict=True):
        for moment in moments:
            torch.testing.assert_close(
                optimizer.state[p][moment].reshape(-1), reference.state[q][moment].reshape(-1), rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learners_train_with_any_optimizer(name: str) -> None:
    learner = make_learner(make_config(grad_clip=None), cls=with_optimizer(OPTIMIZERS[name]))
    module = copy.deepcopy(learner.module["default_policy"])
    reference = OPTIMIZERS[name](list(module.parameters()))
    columns = make_columns(16)

    twin = make_learner(make_config(grad_clip=None))  # computes the gradients for the reference
    for _ in range(3):
        twin.set_module_state({"default_policy": {n: p.detach().numpy() for n, p in module.named_parameters()}})
        batch = {"default_policy": {n: torch.as_tensor(v) for n, v in columns.items()}}
        twin.step = type(twin.step)(("default_policy",))
        loss = twin.compute_loss(fwd_out=twin.module.forward_train(batch), batch=batch)
        gradients = twin.compute_gradients(loss)
        for ref, p in module.named_parameters():
            p.grad = gradients[f"default_policy/{ref}"].clone()
        reference.step()
        learner.update_from_batch(columns)
    for (ref, ours), theirs in zip(
        learner.module["default_policy"].named_parameters(), module.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=ref)


def test_skipped_steps_move_nothing_in_both_bodies() -> None:
    for fused in (True, False):
        p = torch.nn.Parameter(torch.ones(4))
        optimizer = torch.optim.Adam([p], lr=0.1)
        rule, _ = rule_for(optimizer)
        group = FlatGroup(optimizer, 0, {"p": p}, rule)
        group.write({"p": torch.full((4,), float("nan"))})
        group.step(torch.ones(()), set(), fused=fused)
        assert torch.equal(p, torch.ones(4))
        assert float(optimizer.state[p]["step"]) == 0.0
        assert torch.equal(optimizer.state[p]["exp_avg"], torch.zeros(4))


def test_several_param_groups_keep_their_own_settings() -> None:
    def grouped(params: Any) -> torch.optim.Optimizer:
        half = len(params) // 2
        return torch.optim.SGD([{"params": params[:half], "lr": 0.0}, {"params": params[half:], "lr": 0.1}], lr=1.0)

    learner = make_learner(cls=with_optimizer(grouped))
    names = [name for name, _ in learner.module["default_policy"].named_parameters()]
    before = weights(learner)
    learner.update_from_batch(make_columns(16))
    after = weights(learner)
    for name in names[: len(names) // 2]:
        np.testing.assert_array_equal(before[f"default_policy/{name}"], after[f"default_policy/{name}"])
    assert any((before[f"default_policy/{n}"] != after[f"default_policy/{n}"]).any() for n in names[len(names) // 2 :])


class TestRegistration:
    def test_a_name_is_taken_once(self) -> None:
        learner = make_learner()
        params = [torch.nn.Parameter(torch.zeros(1))]
        with pytest.raises(OptimizerError, match="none of the Learner's modules"):
            learner.register_optimizer(optimizer=torch.optim.SGD(params, lr=0.1), params=params)

    def test_a_parameter_has_one_optimizer(self) -> None:
        learner = make_learner()
        params = learner.get_parameters(learner.module["default_policy"])
        with pytest.raises(OptimizerError, match="belongs to optimizer 'default_optimizer'"):
            learner.register_optimizer(
                module_id="default_policy", optimizer_name="b", optimizer=torch.optim.SGD(params, lr=0.1), params=params
            )
        with pytest.raises(OptimizerError, match="has an optimizer 'default_optimizer' already"):
            learner.register_optimizer(
                module_id="default_policy", optimizer=torch.optim.SGD(params, lr=0.1), params=params
            )

    def test_a_parameter_of_another_module_is_refused(self) -> None:
        learner = make_learner(module_ids=("a", "b"))
        params = learner.get_parameters(learner.module["a"])
        with pytest.raises(OptimizerError, match="is not one of module 'b'"):
            learner.register_optimizer(
                module_id="b", optimizer_name="x", optimizer=torch.optim.SGD(params, lr=0.1), params=params
            )

    def test_types_are_checked(self) -> None:
        learner = make_learner()
        params = learner.get_parameters(learner.module["default_policy"])
        with pytest.raises(OptimizerError, match=r"torch\.optim\.Optimizer, not str"):
            learner.register_optimizer(optimizer="adam", params=params)
        with pytest.raises(OptimizerError, match="at least one"):
            learner.register_optimizer(optimizer=torch.optim.SGD(params, lr=0.1), params=[])
        with pytest.raises(OptimizerError, match="same parameters to both"):
            learner.register_optimizer(optimizer=torch.optim.SGD(params, lr=0.1), params=params[:1])

    @pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1.0, "x", [[0, 1e-3], [10, float("nan")]]])
    def test_a_wrong_learning_rate_is_refused(self, rate: Any) -> None:
        class Learner(PPOLearner):
            def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
                params = self.get_parameters(self.module[module_id])
                optimizer = torch.optim.SGD(params, lr=0.1)
                self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=rate)

        message = "Optimizer 'default_optimizer' of module 'default_policy': .* is no learning rate.*at least 0"
        with pytest.raises(OptimizerError, match=message):
            make_learner(cls=Learner)

    @pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1, "x", None])
    def test_a_wrong_learning_rate_is_neither_set_nor_applied(self, rate: Any) -> None:
        learner = make_learner(make_config(lr=1e-3))
        optimizer = learner.get_optimizer()
        message = "Optimizer 'default_optimizer' of module 'default_policy': .* is no learning rate.*at least 0"
        with pytest.raises(OptimizerError, match=message):
            learner._set_optimizer_lr(optimizer, rate)
        assert learner._get_optimizer_lr(optimizer) == 1e-3
        before = weights(learner)
        optimizer.param_groups[0]["lr"] = rate  # As a user might.
        with pytest.raises(OptimizerError, match=message):
            learner.update_from_batch(make_columns(16))
        assert_same(before, weights(learner))
        for good in (0, np.float32(0.5), torch.tensor(0.25)):
            learner._set_optimizer_lr(optimizer, good)
            assert learner._get_optimizer_lr(optimizer) == float(good)
        learner.update_from_batch(make_columns(16))

    def test_finding(self) -> None:
        learner = make_learner(module_ids=("a", "b"))
        assert [name for name, _ in learner.get_optimizers_for_module("a")] == ["default_optimizer"]
        assert len(learner.get_optimizers_for_module()) == 2
        assert learner.get_optimizer("a") is learner.get_optimizers_for_module("a")[0][1]
        with pytest.raises(OptimizerError, match=r"no optimizer 'x'.*a: default_optimizer"):
            learner.get_optimizer("a", "x")

    def test_param_refs_name_module_and_parameter(self) -> None:
        learner = make_learner(module_ids=("a", "b"))
        for module_id in ("a", "b"):
            for name, param in learner.module[module_id].named_parameters():
                assert learner.get_param_ref(param) == f"{module_id}/{name}"
        with pytest.raises(OptimizerError, match="none of the Learner's modules"):
            learner.get_param_ref(torch.nn.Parameter(torch.zeros(1)))

    def test_filtering(self) -> None:
        learner = make_learner(module_ids=("a", "b"))
        refs = {learner.get_param_ref(p): i for i, p in enumerate(learner.module.parameters())}
        mine = learner.filter_param_dict_for_optimizer(refs, learner.get_optimizer("a"))
        assert mine
        assert all(ref.startswith("a/") for ref in mine)

    def test_unknown_options_are_named(self) -> None:
        with pytest.raises(ConfigError, match="momentum"):
            make_learner(make_config(optimizer={"name": "adam", "momentum": 0.9}))


@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_clipping(by: str) -> None:
    class Recording(PPOLearner):
        def postprocess_gradients(self, gradients: Any) -> Any:
            self.raw = {ref: g.clone() for ref, g in gradients.items()}
            processed = super().postprocess_gradients(gradients)
            self.clipped = {ref: g.clone() for ref, g in processed.items()}
            return processed

    learner = make_learner(make_config(grad_clip=0.01, grad_clip_by=by), cls=Recording)
    results = learner.update_from_batch(make_columns(16))
    norm = torch.sqrt(sum((g**2).sum() for g in learner.raw.values()))
    assert results["default_policy"]["gradients_default_optimizer_global_norm"] == pytest.approx(float(norm), rel=1e-5)
    for ref, raw in learner.raw.items():
        expected = {
            "value": raw.clamp(-0.01, 0.01),
            "norm": raw * min(1.0, 0.01 / (float(raw.norm()) + 1e-6)),
            "global_norm": raw * 0.01 / (norm + 1e-6),
        }[by]
        torch.testing.assert_close(learner.clipped[ref], expected, rtol=1e-4, atol=1e-8)


def test_moved_and_replaced_parameters_are_followed() -> None:
    learner, twin = make_learner(), make_learner()
    columns = make_columns(16)
    learner.update_from_batch(columns)
    twin.update_from_batch(columns)
    for p in learner.module.parameters():
        p.data = p.data.clone()  # as moving a module to a device and back does
    optimizer = learner.get_optimizer()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    learner.update_from_batch(columns)
    twin.update_from_batch(columns)
    assert_same(weights(twin), weights(learner))


def test_moments_put_in_place_of_others_are_followed() -> None:
    learner, twin = make_learner(), make_learner()
    columns = make_columns(16)
    learner.update_from_batch(columns)
    twin.update_from_batch(columns)
    for entry in learner.get_optimizer().state.values():
        entry["exp_avg"] = torch.ones_like(entry["exp_avg"])
    for entry in twin.get_optimizer().state.values():
        entry["exp_avg"].fill_(1.0)
    learner.update_from_batch(columns)
    twin.update_from_batch(columns)
    assert_same(weights(twin), weights(learner))
