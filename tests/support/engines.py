"""Runs the same updates on two engines and compares everything that they leave."""

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from unison import PPOConfig
from unison.algorithms import PPOLearner
from unison.learner.engines import compiled
from unison.learner.engines.compiled import CompiledEngine
from unison.learner.engines.feed import Feed
from unison.learner.engines.program import Outputs, Program
from unison.learner.engines.traced import TracedStep
from unison.types import ALL_MODULES, tree_map

VECTOR = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (24, 24, 3), np.uint8)
CHOICE = gym.spaces.Discrete(3)
TORQUES = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
COMPILED = [
    "interpreted",
    "xla",
    pytest.param("inductor", marks=pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")),
]
"""The engines that compile, as parameters of a test."""


def count_traces(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that grows by one with every step that is traced from now on."""
    traces: list[Any] = []
    trace_step = compiled.trace_step
    monkeypatch.setattr(compiled, "trace_step", lambda *a, **k: traces.append(a) or trace_step(*a, **k))
    return traces


def with_encoders(modules: Any, wrap: Callable[[Any], Any]) -> Any:
    """The modules, with another encoder around that of each."""
    for module_id in modules:
        modules[module_id].encoder = wrap(modules[module_id].encoder)
    return modules


class InterpretedEngine(CompiledEngine):
    """Runs traced steps as they are, operation by operation: all of a compiling engine but the compiler."""

    name = "interpreted"

    def refusal(self, learner: Any) -> str | None:
        return None

    def build(self, traced: TracedStep) -> Program:
        return _Interpreted(traced)


class _Interpreted(Program):
    make = 0

    def __init__(self, traced: TracedStep) -> None:
        self._traced = traced
        self.kept = [not scratch for scratch in traced.scratch]

    def run(self, state: Sequence[torch.Tensor], captured: Sequence[torch.Tensor], feed: Feed) -> Outputs:
        traced, rows, left = self._traced, [], []
        count = traced.layout.num_metrics
        for number in range(feed.count):
            leaves: list[torch.Tensor] = []
            for gather, share in zip(traced.gathers, feed.shares, strict=True):
                if gather is not None:
                    leaves.append(feed.columns[gather[0]][feed.indices[gather[1]][number]])
                else:
                    leaves.append(torch.zeros(()) if share is None else share[number])
            noise = [drawn[number] for drawn in feed.noise]
            with torch.no_grad():
                results = traced.graph.module(*state, *captured, *leaves, *noise)
                new, outputs = results[: len(state)], results[len(state) :]
                for old, value, scratch in zip(state, new, traced.scratch, strict=True):
                    if not scratch:
                        old.copy_(value)
            rows.append([float(output) for output in outputs[:count]])
            left = [output.clone() for output in outputs[count:]]
        return Outputs(np.array(rows, np.float32).reshape(feed.count, count), left)


class Case:
    """One setting of a Learner and its batches.

    Args:
        observations: the observation space.
        actions: the action space.
        model: settings of the default module.
        rows: rows of each batch (sequences, for a module with a memory).
        minibatch: rows of each step (time steps, for a module with a memory).
        passes: passes over each batch.
        updates: update calls.
        cls: the Learner's class.
        modules: ids.
        time: steps of each sequence; 0 without a memory.
        training: settings of the training section.
    """

    def __init__(
        self,
        *,
        observations: gym.Space[Any] = VECTOR,
        actions: gym.Space[Any] = CHOICE,
        model: dict[str, Any] | None = None,
        rows: int = 32,
        minibatch: int = 8,
        passes: int = 5,
        updates: int = 5,
        cls: type[PPOLearner] = PPOLearner,
        modules: tuple[str, ...] = ("default_policy",),
        time: int = 0,
        configure: Callable[[PPOConfig], Any] | None = None,
        **training: Any,
    ) -> None:
        self.observations, self.actions, self.rows, self.time = observations, actions, rows, time
        self.minibatch, self.passes, self.updates, self.modules = minibatch, passes, updates, modules
        self._model = {"hidden_sizes": (16,)} | (model or {})
        self._cls = cls
        self._configure = configure
        self._training = {"entropy_coeff": 0.01, "grad_clip": 0.5} | training

    def learner(self, engine: str) -> Any:
        """A built Learner on `engine`; weights depend on the seed alone."""
        known = "eager" if engine == "interpreted" else engine
        config = (
            PPOConfig()
            .rl_module(model_config=self._model)
            .framework(engine=known)
            .debugging(seed=0)
            .training(learner_class=self._cls, **self._training)
        )
        if self.modules != ("default_policy",):
            config.multi_agent(policies=set(self.modules))
        if self._configure is not None:
            self._configure(config)
        learner = config.build_learner(spaces=dict.fromkeys(self.modules, (self.observations, self.actions)))
        if engine == "interpreted":
            learner.engine = InterpretedEngine()
        return learner

    def batch(self, learner: Any, seed: int, rows: int | None = None) -> dict[str, Any]:
        """Columns of each module, [rows, ...] or [rows, time, ...]."""
        return {
            m: self._columns(learner.module[m], seed * 31 + i, rows or self.rows) for i, m in enumerate(self.modules)
        }

    def update(self, learner: Any, seed: int, rows: int | None = None) -> dict[str, Any]:
        """One update on the batch of `seed`; its results."""
        batch = self.batch(learner, seed, rows)
        return learner.update_from_batch(batch, minibatch_size=self.minibatch, num_iters=self.passes)

    def _columns(self, module: Any, seed: int, rows: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        lead = (rows, self.time) if self.time else (rows,)
        if isinstance(self.actions, gym.spaces.Discrete):
            inputs = rng.normal(size=(*lead, int(self.actions.n))) * 0.1
            actions: Any = rng.integers(0, int(self.actions.n), lead)
            logp = np.take_along_axis(inputs - np.log(np.exp(inputs).sum(-1, keepdims=True)), actions[..., None], -1)[
                ..., 0
            ]
        else:
            size = self.actions.shape[0]  # pyright: ignore[reportOptionalSubscript]
            inputs, actions = np.zeros((*lead, 2 * size)), rng.normal(size=(*lead, size))
            logp = (-0.5 * actions**2 - 0.5 * np.log(2 * np.pi)).sum(-1)
        shape = self.observations.shape or ()
        image = self.observations.dtype == np.uint8
        columns = {
            "obs": rng.integers(0, 256, (*lead, *shape)).astype(np.uint8)
            if image
            else rng.normal(size=(*lead, *shape)),
            "actions": actions,
            "action_logp": logp + rng.normal(size=lead) * 0.1,
            "action_dist_inputs": inputs,
            "advantages": rng.normal(size=lead),
            "value_targets": rng.normal(size=lead),
            "vf_preds": rng.normal(size=lead),
        }
        columns = {n: c.astype(np.float32) if c.dtype == np.float64 else c for n, c in columns.items()}
        if self.time:
            lengths = rng.integers(1, self.time + 1, rows)
            columns["loss_mask"] = np.arange(self.time) < lengths[:, None]
            columns["state_in"] = tree_map(
                lambda t: rng.normal(size=(rows, *t.shape)).astype(np.float32), module.get_initial_state()
            )
        return columns


def everything(learner: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Weights, buffers, optimizer state and coefficients, by readable names."""
    found: dict[str, Any] = {}
    for module_id, named in learner.get_module_state().items():
        found |= {f"{module_id}/{name}": value for name, value in named.items()}
    for slot in learner.optimizers.slots.values():
        for number, group in enumerate(slot.groups):
            for name, buffer in group.buffers().items():
                if name not in ("gradients", "last_non_finite"):
                    found[f"{slot.module_id}/{slot.name}/{number}/{name}"] = buffer.detach().numpy()
    for module_id, coefficients in learner.coefficients.items():
        found |= {f"{module_id}/{name}": c.detach().numpy() for name, c in coefficients.items()}
    return {name: np.array(value) for name, value in found.items()}


def assert_agree(first: Any, second: Any, *, rtol: float = 2e-3, atol: float = 2e-5) -> None:
    """Two Learners hold the same numbers, within what float32 allows over a hundred steps."""
    mine, theirs = everything(first), everything(second)
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_allclose(theirs[name], mine[name], rtol=rtol, atol=atol, err_msg=name)


def assert_traced_once(
    case: "Case", learners: Sequence[Any], updates: int, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learners, the last of them by a compiling engine, take alike updates, for all of which one trace serves."""
    traces = count_traces(monkeypatch)
    for seed in range(updates):
        for learner in learners:
            results = case.update(learner, seed)
        assert results[ALL_MODULES]["engine"] == engine
    assert_agree(*learners)
    assert len(traces) == 1


def assert_results_agree(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Two results hold the same metrics."""
    for module_id in first.keys() - {"__all_modules__"}:
        assert first[module_id].keys() == second[module_id].keys()
        for name, value in first[module_id].items():
            if isinstance(value, str):
                assert second[module_id][name] == value
            else:
                np.testing.assert_allclose(second[module_id][name], value, rtol=2e-3, atol=1e-4, err_msg=name)


def run_both(case: Case, engine: str) -> tuple[Any, Any]:
    """Run `case` on the eager engine and on `engine`, compare, and return both Learners."""
    eager, compiled = case.learner("eager"), case.learner(engine)
    for seed in range(case.updates):
        torch.manual_seed(seed)
        wanted = case.update(eager, seed)
        torch.manual_seed(seed)
        found = case.update(compiled, seed)
        assert found["__all_modules__"]["engine"] == engine, found["__all_modules__"]
        assert_results_agree(wanted, found)
    assert_agree(eager, compiled)
    return eager, compiled
