"""What all compiling engines share: trace, check, run, and fall back honestly."""

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from unison.data.plan import MinibatchPlan
from unison.data.tensors import TensorColumns
from unison.learner.collective import Collective
from unison.learner.engines.chains import Chain, Entry, agreed, gathered_metrics, kinds, metrics_by_step, shape_key
from unison.learner.engines.checking import disagreement
from unison.learner.engines.eager import EagerEngine, EagerPass
from unison.learner.engines.engine import BeforeChange, Engine
from unison.learner.engines.feed import Feed, make_feed
from unison.learner.engines.graph import GraphMaker
from unison.learner.engines.program import Job, Outputs, Program
from unison.learner.engines.rank_sums import muted, reporting
from unison.learner.engines.recording import Untraceable
from unison.learner.engines.separation import couplings, is_separable
from unison.learner.engines.traced import TracedStep, trace_step
from unison.learner.engines.watching import Attributes, assign
from unison.learner.engines.windows import Orders, Stretch, windows_of_pass
from unison.learner.metrics import StepMetrics
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

logger = logging.getLogger("unison")
_MAX_RETRACES = 5
_MAX_CHAINS = 64


class CompiledEngine(Engine, ABC):
    """Runs steps as programs made from one trace of them; what it can't honour runs eagerly, with a reason.

    Args:
        decompositions: rules that replace operations by simpler ones, by operation.
    """

    fused = True

    def __init__(self, decompositions: Mapping[Any, Any] | None = None) -> None:
        self._maker = GraphMaker(decompositions)
        self.seconds_compile = 0.0
        self.compiler: ThreadPoolExecutor | None = None
        """Where programs are compiled beside the training; None compiles them at once."""
        self._eager = EagerEngine()
        self._entries: dict[Any, Entry] = {}
        self._chains: dict[Any, list[Chain]] = {}
        """By the shape of an update, the one that was met last at the end."""
        self._sightings: Counter[Any] = Counter()
        self._warned: set[str] = set()
        self._is_joint = False
        self.reason: str | None = None
        """Why the last update ran eagerly, wholly or in part."""
        self._ran: set[str] = set()
        self._attributes: Attributes | None = None

    @abstractmethod
    def refusal(self, learner: "TorchLearner") -> str | None:
        """Why this engine can't serve a Learner at all, or None."""

    @abstractmethod
    def build(self, traced: TracedStep) -> Program:
        """Make the program of a traced step.

        Raises:
            Untraceable: an operation that the engine does not know; names it.
        """

    @contextmanager
    def compiling(self) -> Generator[None]:
        """Count what runs inside as compiling."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds_compile += time.perf_counter() - start

    def execute(self, jobs: Sequence[Job], before_change: BeforeChange) -> list[Outputs]:
        """Run jobs that don't depend on each other; `before_change` as in Engine.run."""
        before_change({})
        return [job.run() for job in jobs]

    def run(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        before_change: BeforeChange,
    ) -> list[StepMetrics]:
        """See Engine.run."""
        self._ran, self.reason = set(), None
        chains = self._ready_chains(learner, plan, columns, before_change)
        if not chains:
            self._ran.add("eager")
            return self._eager.run(learner, plan, columns, before_change)
        orders = list(plan.permutations(learner.generator))
        collected: list[StepMetrics] = []
        stretches = [chain.stretches(plan.num_iters) for chain in chains]
        last = plan.num_iters - 1
        for together in zip_longest(*stretches):
            jobs: list[tuple[TracedStep, Stretch, Job]] = []
            for entry, stretch in (found for found in together if found is not None):
                if entry.program is None or entry.traced is None:
                    before_change({})
                    collected += self._step_eagerly(learner, plan, columns, orders, stretch)
                    continue
                feed = make_feed(learner, entry.traced, columns, plan, orders, stretch)
                job = Job(entry.program, entry.traced.state(), entry.traced.captured(), feed)
                jobs.append((entry.traced, stretch, job))
            with reporting(learner.collective):
                outputs_of_jobs = self.execute([job for *_, job in jobs], before_change)
            for (traced, stretch, _), outputs in zip(jobs, outputs_of_jobs, strict=True):
                self._ran.add(self.name)
                for path, tensor in zip(traced.layout.left, outputs.left, strict=True):
                    assign(learner, path, tensor)
                logged = outputs.metrics[stretch.before(last) :]
                if len(logged) and all(len(others) == 1 for others in stretches):
                    collected += gathered_metrics(traced, logged, learner.metrics.reductions)
                else:
                    collected += metrics_by_step(traced, logged)
        return collected

    def report(self) -> dict[str, str | float]:
        """See Engine.report."""
        ran = self.name if self.name in self._ran else "eager"
        report: dict[str, str | float] = {"engine": ran, "seconds_compile": self.seconds_compile}
        if self.reason is not None:
            report["engine_reason"] = self.reason
        return report

    def prepare(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        before_change: BeforeChange,
    ) -> bool:
        """Make the programs that an update of this shape needs; False if none of its steps has one."""
        return bool(self._ready_chains(learner, plan, columns, before_change))

    def _ready_chains(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        before_change: BeforeChange,
    ) -> list[Chain]:
        """The chains of an update of this shape, made anew where that is needed; none if no step has a program."""
        refusal = self.refusal(learner)
        if refusal is not None:
            self._note(refusal)
            return []
        key = shape_key(plan, columns)
        if self._attributes is None:
            self._attributes = Attributes(learner)
        chains, attributes = self._chains.pop(key, None), self._attributes.renew()
        if chains is None or not all(entry.is_current(attributes) for entry in _entries(chains)):
            before_change({})  # A trace takes a step, which it undoes.
            chains = self._make_chains(learner, plan, columns)
        self._chains[key] = chains
        if len(self._chains) > _MAX_CHAINS:
            del self._chains[next(iter(self._chains))]
        for entry in _entries(chains):
            entry.settle()
            if entry.refusal is not None:
                self._note(entry.refusal)
        return chains if any(entry.program is not None for entry in _entries(chains)) else []

    def forget_module(self, module_id: ModuleID) -> None:
        """See Engine.forget_module."""
        self._chains = {k: c for k, c in self._chains.items() if all(module_id not in each.modules for each in c)}
        self._entries = {key: entry for key, entry in self._entries.items() if module_id not in key[0]}
        self._sightings = Counter({key: count for key, count in self._sightings.items() if module_id not in key[0]})

    def is_compiling(self) -> bool:
        """Whether programs are being compiled beside the training."""
        return any(entry.pending is not None and not entry.pending.done() for entry in self._entries.values())

    # --- running ---

    def _step_eagerly(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        orders: Orders,
        stretch: Stretch,
    ) -> list[StepMetrics]:
        self._ran.add("eager")
        collected: list[StepMetrics] = []
        last = plan.num_iters - 1
        for number, window in stretch.steps:
            own = {m: columns[m] for m in window.modules}  # also of those whose rows other ranks have
            one_pass = EagerPass(learner, plan, own, orders[number], is_logged=number == last)
            logged = [one_pass.step(slot, slot is window.slots[-1]) for slot in window.slots]
            collected += logged if number == last else []
        return collected

    # --- programs ---

    def _make_chains(
        self, learner: "TorchLearner", plan: MinibatchPlan, columns: Mapping[ModuleID, TensorColumns]
    ) -> list[Chain]:
        split = len(columns) > 1 and not self._is_joint and is_separable(learner, list(columns))
        groups: list[ModuleID | None] = list(columns) if split else [None]
        chains: list[Chain] = []
        for only in groups:
            windows = windows_of_pass(plan, learner.collective.rank, learner.collective.world_size, only)
            chain = Chain([only] if only is not None else list(columns), windows)
            signatures = dict.fromkeys(window.signature for window in windows)
            kind = kinds(columns, chain.modules)
            # Shapes that never come again are not worth a program, but the first ones most likely do.
            is_first = not any(key[-1] == kind and entry.program for key, entry in self._entries.items())
            chain.entries = {s: self._entry(learner, plan, columns, chain, s, is_first=is_first) for s in signatures}
            chains.append(chain)
        if split and couplings([e.traced for e in _entries(chains) if e.traced is not None]):
            self._is_joint = True
            return self._make_chains(learner, plan, columns)
        return chains

    def _entry(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        chain: Chain,
        signature: Any,
        *,
        is_first: bool,
    ) -> Entry:
        if not signature[-1]:
            return Entry(refusal="a minibatch has fewer rows than there are Learners")
        shared = learner.collective.world_size > 1 or plan.accumulation_steps > 1
        kind = kinds(columns, chain.modules)
        key = (frozenset(chain.modules), signature, shared, kind)
        self._sightings[key] += 1
        entry = self._entries.get(key)
        if entry is not None and entry.traced is not None and not entry.is_current():
            entry = self._outdated(entry)
            self._entries[key] = entry
        if entry is None or (entry.traced is None and entry.refusal is None):
            if self._sightings[key] < 2 and not is_first:
                return Entry()
            retraces = entry.retraces if entry is not None else 0
            entry = agreed(self._make(learner, plan, columns, chain, signature, shared), learner.collective)
            entry.retraces = retraces
            self._entries[key] = entry
            learner.engine.runs += 1  # Should a rank not have come so far, all engines begin anew.
        return entry

    def _outdated(self, entry: Entry) -> Entry:
        """What takes the place of an entry whose trace has become wrong."""
        assert entry.traced is not None
        retraces = entry.retraces + 1
        if retraces <= _MAX_RETRACES:
            return Entry(retraces=retraces)
        what = entry.traced.guards.violation() or "the memory of the parameters"
        return Entry(refusal=f"{what} changes from update to update; make it a tensor (_get_tensor_variable)")

    def _make(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        chain: Chain,
        signature: Any,
        shared: bool,
    ) -> Entry:
        stretch = chain.first_stretch(signature, plan.num_iters)
        window = stretch.steps[0][1]
        try:
            with self.compiling():
                traced = trace_step(learner, columns, window, shared=shared, maker=self._maker)
                given: Orders = [dict.fromkeys(columns)] * plan.num_iters
                feed = make_feed(learner, traced, columns, plan, given, stretch, with_noise=False)
        except Untraceable as error:
            alone = [slot for slot in learner.optimizers.active(window.modules) if slot.own_step_reason is not None]
            hint = f" ({alone[0].where} steps by its own code: {alone[0].own_step_reason})" if alone else ""
            return Entry(refusal=f"{error}{hint}")
        except Exception as error:  # the eager step may do without; if the fault is the user's, it shows there
            return Entry(refusal=f"tracing failed with {type(error).__name__}: {str(error).strip()[:200]}")
        # A trial mutes the sums over the ranks, so nothing else may run beside it then.
        if self.compiler is not None and learner.collective.world_size == 1:
            return Entry(traced, pending=self.compiler.submit(self._compile, traced, feed, learner.collective))
        made = self._compile(traced, feed, learner.collective)
        return Entry(refusal=made) if isinstance(made, str) else Entry(traced, made)

    def _compile(self, traced: TracedStep, feed: Feed, collective: Collective) -> Program | str:
        """The program of a traced step, or why there is none. Touches nothing of the Learner."""
        try:
            with self.compiling(), muted(collective):
                program = self.build(traced)
                differing = disagreement(program, traced, feed)
        except Untraceable as error:
            return str(error)
        except Exception as error:  # a compiler may fail in ways that are its own
            return f"compiling failed with {type(error).__name__}: {str(error).strip()[:200]}"
        if differing is not None:
            return f"the compiled step does not agree with the eager one: {differing}"
        return program

    def _note(self, refusal: str) -> None:
        self.reason = refusal
        if refusal not in self._warned:
            self._warned.add(refusal)
            logger.warning("Engine '%s' steps eagerly: %s.", self.name, refusal)


def _entries(chains: Sequence[Chain]) -> list[Entry]:
    return [entry for chain in chains for entry in chain.entries.values()]
