"""`engine="auto"`: eager at once, then whatever measures fastest here, once the run is long enough to pay for it."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from unison.data.plan import MinibatchPlan
from unison.data.tensors import TensorColumns
from unison.learner.collective import Collective
from unison.learner.engines.compiled import CompiledEngine
from unison.learner.engines.eager import EagerEngine
from unison.learner.engines.engine import BeforeChange, Engine
from unison.learner.metrics import StepMetrics
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

PATIENCE = {"xla": 1.0, "inductor": 30.0}
"""Seconds of stepping after which compiling for an engine is worth its price, which is about as long."""
_SAMPLES = 3
_MAX_OPERATIONS = 1500
_GOOD_ENOUGH = 3.0
"""Once an engine is this many times faster than eager, slower compilers are not tried any more."""
_TOO_SLOW = 3.0
_SLOW_RUNS = 4
"""So many updates in a row that take this many times eager's time a step, compiling included, and eager it is."""


class AutoEngine(Engine):
    """Measures engines on the Learner's own updates and keeps the fastest.

    Numbers differ between engines as float32 rounds, so runs under `auto` repeat each other only to
    that accuracy; for bit-identical runs name the engine. Ranks share what they measure, so all of them
    change the engine with the same update.
    """

    name = "auto"
    fused = True

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {"eager": EagerEngine()}
        self._untried: list[str] | None = None
        self._best = "eager"
        self._trial: str | None = None
        self._stepping = 0.0
        self._samples: dict[str, list[float]] = {}
        self._verdict = "auto: the run is still short"
        self._last: Engine = self._engines["eager"]
        self._slow_runs = 0

    def run(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        before_change: BeforeChange,
    ) -> list[StepMetrics]:
        """See Engine.run."""
        engine = self._last = self._choose(learner, plan, columns, before_change)
        start = time.perf_counter()
        compiled_before = engine.seconds_compile if isinstance(engine, CompiledEngine) else 0.0
        steps = engine.run(learner, plan, columns, before_change)
        seconds = _of_all_ranks(time.perf_counter() - start, learner.collective)
        self._stepping += seconds
        compiled = isinstance(engine, CompiledEngine) and engine.seconds_compile > compiled_before
        ran = engine.report()["engine"]
        if not compiled and (ran == engine.name):
            self._samples.setdefault(engine.name, []).append(seconds / max(1, plan.optimizer_steps))
        if ran != "eager":
            self._watch(engine.name, seconds / max(1, plan.optimizer_steps))
        return steps

    def _watch(self, name: str, seconds: float) -> None:
        """Go back to eager where batches change their shape so often that compiling never ends."""
        is_slow = seconds > _TOO_SLOW * self._seconds("eager")
        self._slow_runs = self._slow_runs + 1 if is_slow else 0
        if self._slow_runs == _SLOW_RUNS:
            self._best, self._untried = "eager", []
            self._decide(f"{name} compiles for each update, for their shapes differ; eager is faster")

    def report(self) -> dict[str, str | float]:
        """See Engine.report."""
        report = dict(self._last.report())
        compilers = [e for e in self._engines.values() if isinstance(e, CompiledEngine)]
        report["seconds_compile"] = sum(engine.seconds_compile for engine in compilers)
        report["engine_reason"] = self._verdict
        return report

    def forget_module(self, module_id: ModuleID) -> None:
        """See Engine.forget_module."""
        for engine in self._engines.values():
            engine.forget_module(module_id)

    def _choose(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        before_change: BeforeChange,
    ) -> Engine:
        if self._untried is None:
            self._untried = _candidates(learner)
        if self._trial is None and self._untried and self._stepping > PATIENCE[self._untried[0]]:
            self._trial = self._untried.pop(0)
            self._stepping = 0.0
            if self._start(self._trial):
                self._verdict = f"auto: {self._trial} is being compiled or measured"
            else:
                self._trial = None
        if self._trial is not None:
            return self._on_trial(self._trial, learner, plan, columns, before_change)
        return self._engines[self._best]

    def _start(self, name: str) -> bool:
        if name == "inductor" and self._seconds("eager") > _GOOD_ENOUGH * self._seconds(self._best):
            return False
        self._engines[name] = make_compiled(name)
        return True

    def _on_trial(
        self,
        name: str,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        before_change: BeforeChange,
    ) -> Engine:
        engine = self._engines[name]
        assert isinstance(engine, CompiledEngine)
        if len(self._samples.get(name, [])) >= _SAMPLES:
            if self._seconds(name) < self._seconds(self._best):
                self._best = name
            return self._decide(f"measured, in microseconds a step: {self._measured()}")
        if engine.prepare(learner, plan, columns, before_change):
            return engine
        if not engine.is_compiling() and engine.reason is not None:
            return self._decide(f"{name}: {engine.reason}")
        return self._engines[self._best]

    def _decide(self, why: str) -> Engine:
        self._trial, self._stepping, self._verdict = None, 0.0, f"auto: {why}"
        return self._engines[self._best]

    def _measured(self) -> str:
        return ", ".join(f"{name} {self._seconds(name) * 1e6:.0f}" for name in self._samples)

    def _seconds(self, name: str) -> float:
        """The fastest of the latest steps: what disturbs a measurement only ever slows it."""
        return min(self._samples.get(name, [float("inf")]))


def _of_all_ranks(seconds: float, collective: Collective) -> float:
    """The mean over the ranks, the same number on each."""
    if collective.world_size == 1:
        return seconds
    return float(collective.all_reduce_(torch.tensor([seconds], dtype=torch.float64))) / collective.world_size


def make_compiled(name: str) -> CompiledEngine:
    """A compiling engine that compiles beside the training where its compiler allows that."""
    if name == "xla":
        from unison.learner.engines.xla import XlaEngine

        engine = XlaEngine()
        engine.max_operations = _MAX_OPERATIONS
        engine.compiler = ThreadPoolExecutor(1, thread_name_prefix="unison-compile")
        return engine
    from unison.learner.engines.inductor import InductorEngine

    return InductorEngine()


def _candidates(learner: "TorchLearner") -> list[str]:
    """The compiling engines that this machine has, those that compile fastest first."""
    from unison.learner.engines.kernels.compiler import find_compiler
    from unison.learner.engines.xla import is_available

    on_cpu = learner.device.type == "cpu"
    found = ["xla"] if on_cpu and is_available() else []
    if not on_cpu or find_compiler() is not None:
        found.append("inductor")
    return found
