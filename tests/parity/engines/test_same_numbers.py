"""Every engine leaves the numbers of the eager one, after some hundred steps."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.engines import IMAGE, TORQUES, Case, everything, run_both, with_encoders
from unison.algorithms import PPOLearner


class Scaled(PPOLearner):
    """Overrides every gradient hook."""

    def compute_gradients(self, loss_per_module: Any) -> Any:
        return {ref: g * 0.5 for ref, g in super().compute_gradients(loss_per_module).items()}

    def postprocess_gradients_for_module(self, *, module_id: str, config: Any, module_gradients_dict: Any) -> Any:
        clipped = super().postprocess_gradients_for_module(
            module_id=module_id, config=config, module_gradients_dict=module_gradients_dict
        )
        return {ref: g * (0.0 if "value_head" in ref else 1.0) for ref, g in clipped.items()}


class Noisy(PPOLearner):
    """Draws random numbers in its loss, three ways."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        values = fwd_out["vf_preds"]
        kept = torch.nn.functional.dropout(values, 0.3)
        noise = torch.randn_like(values) + torch.rand(values.shape)
        noise = noise.masked_fill(noise > 2, float("nan")).nan_to_num(0.0)
        return loss + (kept * noise).mean()


class Remembering(PPOLearner):
    """Keeps tensors on itself: one that it replaces and reads again, and one that it only leaves."""

    def build(self) -> None:
        super().build()
        self.average = self._get_tensor_variable(0.0)

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        self.average = 0.9 * self.average + 0.1 * loss.detach()
        self.last_values = {"mean": fwd_out["vf_preds"].mean().detach()}
        return loss + 0.1 * self.average * fwd_out["vf_preds"].mean()


class Decaying(PPOLearner):
    """Its loss reads no rows, and draws nothing."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        loss: Any = sum(p.square().sum() for p in self.module[module_id].parameters())
        self.metrics.log_value((module_id, "rows"), torch.full((), float("inf")))
        return loss


class WritesInPlace(PPOLearner):
    """Writes into the minibatch and into its random numbers."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        batch["advantages"].sub_(0.1)
        noise = torch.randn_like(fwd_out["vf_preds"]).mul_(0.1)
        noise[:4].zero_()
        loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        return loss + (noise * fwd_out["vf_preds"]).mean()


class Normalizing(PPOLearner):
    """Its encoders end in BatchNorm, whose operation does not say that it writes running statistics."""

    def _make_module(self) -> Any:
        return with_encoders(super()._make_module(), self._normalized)

    @staticmethod
    def _normalized(encoder: Any) -> Any:
        layers: Any = torch.nn.Sequential(encoder, torch.nn.BatchNorm1d(encoder.output_size))
        layers.output_size = encoder.output_size
        return layers


class Attending(PPOLearner):
    """What its encoders give attends to itself: in one layer without dropout, and in one with it."""

    def _make_module(self) -> Any:
        modules = super()._make_module()
        torch.manual_seed(0)
        return with_encoders(modules, _Attention)


class _Attention(torch.nn.Module):
    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder, self.output_size = encoder, encoder.output_size
        self.enter = torch.nn.Linear(1, 8)
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)

    def forward(self, *inputs: Any) -> torch.Tensor:
        tokens = self.enter(self.encoder(*inputs)[..., None])
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.layer(tokens)[..., 0]


CASES = {
    "discrete": Case(),
    "continuous": Case(actions=TORQUES),
    "shared_layers": Case(model={"share_value_layers": True, "activation": "relu"}),
    "kl_loss_and_value_clipping": Case(use_kl_loss=True, vf_clip_param=0.5),
    "clip_by_value": Case(grad_clip=0.01, grad_clip_by="value"),
    "clip_by_norm": Case(grad_clip=0.1, grad_clip_by="norm"),
    "no_clipping": Case(grad_clip=None),
    "sgd": Case(optimizer={"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, lr=1e-2),
    "rmsprop": Case(optimizer={"name": "rmsprop", "momentum": 0.5}),
    "adamw": Case(optimizer={"name": "adamw", "weight_decay": 0.1}),
    "schedules": Case(lr=[[0, 1e-3], [500, 1e-5]], entropy_coeff=[[0, 0.1], [500, 0.0]]),
    "accumulation": Case(gradient_accumulation_steps=2),
    "no_shuffle": Case(shuffle_batch_per_epoch=False),
    "ragged": Case(rows=30),
    "overridden_gradients": Case(cls=Scaled),
    "noise": Case(cls=Noisy),
    "tensors_on_self": Case(cls=Remembering),
    "attention": Case(cls=Attending, model={"hidden_sizes": (4,)}, passes=3, updates=3),
    "normalizer": Case(model={"normalize_observations": True}),
    "activations": Case(model={"activation": "silu", "hidden_sizes": (8, 8)}),
    "two_modules": Case(modules=("a", "b"), rows=24),
    "lstm": Case(model={"lstm_size": 8}, time=4, rows=8, minibatch=16, updates=3),
    "gru": Case(model={"lstm_size": 8, "cell": "gru"}, time=3, rows=8, minibatch=12, updates=2),
    "images": Case(observations=IMAGE, model={"conv_layers": [(4, 4, 2), (4, 3, 1)]}, rows=16, updates=2, passes=3),
    "larger_minibatches_of_images": Case(
        observations=IMAGE,
        model={"conv_layers": [(4, 4, 2)], "hidden_sizes": [16]},
        rows=64,
        minibatch=64,
        updates=2,
        passes=2,
    ),
    "writes_in_place": Case(cls=WritesInPlace, updates=2, passes=3),
    "reads_no_rows": Case(cls=Decaying, updates=2, passes=3),
    "wide": Case(model={"hidden_sizes": [64, 72]}, actions=TORQUES, rows=150, minibatch=70, passes=5),
    "large": Case(model={"hidden_sizes": [136, 128]}, actions=TORQUES, rows=150, minibatch=70, passes=5),
    "large_without_clipping": Case(model={"hidden_sizes": [136, 128]}, grad_clip=None, rows=64, passes=5),
}  # fmt: skip


XLA = [
    "discrete",
    "continuous",
    "sgd",
    "accumulation",
    "ragged",
    "noise",
    "attention",
    "tensors_on_self",
    "two_modules",
    "lstm",
    "images",
    "larger_minibatches_of_images",
    "writes_in_place",
    "reads_no_rows",
    "wide",
    "large",
    "large_without_clipping",
]
INDUCTOR = ["continuous", "noise", "attention"]


@pytest.mark.parametrize("engine", ["interpreted", "xla"])
def test_running_statistics_move_as_often_as_steps_are_taken(engine: str) -> None:
    if engine == "xla":
        pytest.importorskip("jax")
    case = Case(cls=Normalizing, rows=16, minibatch=16, passes=1, updates=1)
    learners = [case.learner(name) for name in ("eager", engine)]
    for learner in learners:
        learner.module.train()
        case.update(learner, 0)
    eager, traced = (dict(learner.module.named_buffers()) for learner in learners)
    assert any("running_mean" in name and eager[name].abs().sum() > 0 for name in eager)
    for name, buffer in eager.items():
        torch.testing.assert_close(traced[name], buffer, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("name", CASES)
def test_a_traced_step_is_the_step(name: str) -> None:
    run_both(CASES[name], "interpreted")


@pytest.mark.parametrize("name", XLA)
def test_xla_agrees(name: str) -> None:
    pytest.importorskip("jax")
    run_both(CASES[name], "xla")


@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("name", INDUCTOR)
def test_inductor_agrees(name: str) -> None:
    run_both(CASES[name], "inductor")


@pytest.mark.parametrize("engine", ["interpreted", "xla"])
def test_a_restored_learner_goes_on_bit_for_bit(engine: str, tmp_path: Path) -> None:
    """Though it has yet to compile what the saved one had: also minibatches that are smaller than the others."""
    if engine == "xla":
        pytest.importorskip("jax")
    case = Case(rows=30)
    learner, restored = case.learner(engine), case.learner(engine)
    for seed in range(3):
        case.update(learner, seed)
    learner.save_state(tmp_path / "state")
    restored.load_state(tmp_path / "state")
    for seed in range(3, 6):
        case.update(learner, seed)
        case.update(restored, seed)
    saved, found = everything(learner), everything(restored)
    for name, value in saved.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
