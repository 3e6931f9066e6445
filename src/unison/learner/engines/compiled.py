"""What all compiling engines share: trace, check, run, and fall back honestly."""

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unison.data.plan import MinibatchPlan
from unison.data.tensors import TensorColumns
from unison.learner.engines.checking import disagreement
from unison.learner.engines.eager import EagerEngine, EagerPass
from unison.learner.engines.engine import Engine
from unison.learner.engines.feed import Orders, make_feed
from unison.learner.engines.program import Program
from unison.learner.engines.recording import Untraceable
from unison.learner.engines.separation import couplings, is_separable
from unison.learner.engines.traced import TracedStep, trace_step
from unison.learner.engines.watching import assign
from unison.learner.engines.windows import Window, windows_of_pass
from unison.learner.metrics import StepMetrics
from unison.types import ModuleID, tree_items

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

logger = logging.getLogger("unison")
_MAX_RETRACES = 5


@dataclass
class _Entry:
    """A traced and compiled step, or the reason why there is none."""

    traced: TracedStep | None = None
    program: Program | None = None
    refusal: str | None = None
    retraces: int = 0


@dataclass
class _Chain:
    """The windows of modules that step together: those of one pass, each with its program (None: eager)."""

    modules: list[ModuleID]
    windows: list[Window]
    entries: list[_Entry] = field(default_factory=list[_Entry])


class CompiledEngine(Engine, ABC):
    """Runs steps as programs made from one trace of them; what it can't honour runs eagerly, with a reason."""

    fused = True

    def __init__(self) -> None:
        self._eager = EagerEngine()
        self._entries: dict[Any, _Entry] = {}
        self._sightings: Counter[Any] = Counter()
        self._warned: set[str] = set()
        self._joint = False
        self._reason: str | None = None
        self._seconds_compile = 0.0
        self._ran: set[str] = set()

    # --- what a filling gives ---

    decompositions: Mapping[Any, Any] = {}
    plain_rnn: bool = False

    @abstractmethod
    def refusal(self, learner: "TorchLearner") -> str | None:
        """Why this engine can't serve a Learner at all, or None."""

    @abstractmethod
    def build(self, traced: TracedStep) -> Program:
        """Make the program of a traced step.

        Raises:
            Untraceable: an operation that the engine does not know; names it.
        """

    # --- running ---

    def run(
        self, learner: "TorchLearner", plan: MinibatchPlan, columns: Mapping[ModuleID, TensorColumns]
    ) -> list[StepMetrics]:
        """See Engine.run."""
        self._ran, self._reason = set(), None
        refusal = self.refusal(learner)
        chains = [] if refusal is not None else self._chains(learner, plan, columns)
        if refusal is not None:
            self._note(refusal)
        if not any(entry.program for chain in chains for entry in chain.entries):
            self._ran.add("eager")
            return self._eager.run(learner, plan, columns)
        orders = list(plan.permutations(learner.generator))
        collected: list[StepMetrics] = []
        for chain in chains:
            collected += self._run_chain(learner, plan, columns, orders, chain)
        return collected

    def report(self) -> dict[str, str | float]:
        """See Engine.report."""
        ran = self.name if self.name in self._ran else "eager"
        report: dict[str, str | float] = {"engine": ran, "seconds_compile": self._seconds_compile}
        if self._reason is not None:
            report["engine_reason"] = self._reason
        return report

    def _run_chain(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        orders: Orders,
        chain: _Chain,
    ) -> list[StepMetrics]:
        collected: list[StepMetrics] = []
        own = {m: columns[m] for m in chain.modules}
        last = plan.num_iters - 1
        for entry, steps in _stretches(chain, plan.num_iters):
            if entry.program is None or entry.traced is None:
                self._ran.add("eager")
                for number, window in steps:
                    one_pass = EagerPass(learner, plan, own, orders[number], is_logged=number == last)
                    logged = [one_pass.step(slot, slot is window.slots[-1]) for slot in window.slots]
                    collected += logged if number == last else []
                continue
            self._ran.add(self.name)
            logged = self._run_program(learner, plan, columns, orders, entry, steps)
            skipped = sum(len(window.slots) for number, window in steps if number != last)
            collected += logged[skipped:]
        return collected

    def _run_program(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        orders: Orders,
        entry: _Entry,
        steps: Sequence[tuple[int, Window]],
    ) -> list[StepMetrics]:
        traced, program = entry.traced, entry.program
        assert traced is not None
        assert program is not None
        feed = make_feed(learner, traced, columns, plan, orders, steps)
        outputs = program.run(traced.state(), traced.captured(), feed)
        for path, tensor in zip(traced.layout.left, outputs.left, strict=True):
            assign(learner, path, tensor)
        layout = traced.layout
        return [
            numbers | {key: row[place] for key, place in places.items()}
            for row in outputs.metrics
            for numbers, places in zip(layout.logged, layout.places, strict=True)
        ]

    # --- programs ---

    def _chains(
        self, learner: "TorchLearner", plan: MinibatchPlan, columns: Mapping[ModuleID, TensorColumns]
    ) -> list[_Chain]:
        split = len(columns) > 1 and not self._joint and is_separable(learner, list(columns))
        groups: list[ModuleID | None] = list(columns) if split else [None]
        chains: list[_Chain] = []
        for only in groups:
            rank, world_size = learner.collective.rank, learner.collective.world_size
            windows = windows_of_pass(plan, rank, world_size, only)
            chain = _Chain([only] if only is not None else list(columns), windows)
            shared = world_size > 1 or plan.accumulation_steps > 1
            counts = Counter(window.signature for window in windows)
            main = max(counts, key=lambda signature: counts[signature])
            made = {
                signature: self._entry(learner, plan, columns, chain, signature, shared, is_main=signature == main)
                for signature in counts
            }
            chain.entries = [made[window.signature] for window in windows]
            chains.append(chain)
        if split:
            traced = [entry.traced for chain in chains for entry in chain.entries if entry.traced is not None]
            if couplings(traced):
                self._joint = True
                return self._chains(learner, plan, columns)
        return chains

    def _entry(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        chain: _Chain,
        signature: Any,
        shared: bool,
        *,
        is_main: bool,
    ) -> _Entry:
        key = (signature, shared, _kinds(columns, chain.modules))
        self._sightings[key] += 1
        entry = self._entries.get(key)
        if entry is not None and entry.traced is not None:
            entry = self._revalidated(key, entry)
        if entry is None or (entry.traced is None and entry.refusal is None):
            first = not any(k[2] == key[2] and e.program for k, e in self._entries.items())
            if self._sightings[key] < 2 and not (is_main and first):
                return _Entry()
            window = next(w for w in chain.windows if w.signature == signature)
            retraces = entry.retraces if entry is not None else 0
            entry = self._entries[key] = self._make(learner, plan, columns, chain, window, shared)
            entry.retraces = retraces
        if entry.refusal is not None:
            self._note(entry.refusal)
        return entry

    def _revalidated(self, key: Any, entry: _Entry) -> _Entry:
        """The entry, or an empty one if what its trace froze has changed since."""
        assert entry.traced is not None
        changed = entry.traced.guards.violation()
        if changed is None and entry.traced.bindings.refresh():
            return entry
        retraces = entry.retraces + 1
        entry = self._entries[key] = _Entry(retraces=retraces)
        if retraces > _MAX_RETRACES:
            what = changed or "the memory of the parameters"
            entry.refusal = f"{what} changes from update to update; make it a tensor (_get_tensor_variable)"
        return entry

    def _make(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        chain: _Chain,
        window: Window,
        shared: bool,
    ) -> _Entry:
        start = time.perf_counter()
        try:
            traced = trace_step(
                learner, columns, window, shared=shared, decompositions=self.decompositions, plain_rnn=self.plain_rnn
            )
            program = self.build(traced)
            steps = _first_stretch(chain, plan, window)
            given: Orders = [dict.fromkeys(columns)] * plan.num_iters
            feed = make_feed(learner, traced, columns, plan, given, steps, with_noise=False)
            differing = disagreement(program, traced, feed)
            if differing is not None:
                return _Entry(refusal=f"the compiled step does not agree with the eager one: {differing}")
            return _Entry(traced, program)
        except Untraceable as error:
            return _Entry(refusal=str(error))
        except Exception as error:  # whatever it is, the eager step can do without; if it is the user's, it shows there
            return _Entry(refusal=f"tracing failed with {type(error).__name__}: {str(error).strip().splitlines()[:1]}")
        finally:
            self._seconds_compile += time.perf_counter() - start

    def _note(self, refusal: str) -> None:
        self._reason = refusal
        if refusal not in self._warned:
            self._warned.add(refusal)
            logger.warning("Engine '%s' steps eagerly: %s.", self.name, refusal)


def _stretches(chain: _Chain, passes: int) -> list[tuple[_Entry, list[tuple[int, Window]]]]:
    """The steps of all passes in order, those that one program runs in a row joined."""
    stretches: list[tuple[_Entry, list[tuple[int, Window]]]] = []
    for number in range(passes):
        for window, entry in zip(chain.windows, chain.entries, strict=True):
            if stretches and stretches[-1][0] is entry:
                stretches[-1][1].append((number, window))
            else:
                stretches.append((entry, [(number, window)]))
    return stretches


def _first_stretch(chain: _Chain, plan: MinibatchPlan, window: Window) -> list[tuple[int, Window]]:
    """The steps that the program of `window` will take in a row, beginning with it."""
    alike = [w for w in chain.windows if w.signature == window.signature]
    passes = plan.num_iters if len(alike) == len(chain.windows) else 1
    return [(number, w) for number in range(passes) for w in alike]


def _kinds(columns: Mapping[ModuleID, TensorColumns], modules: Sequence[ModuleID]) -> Any:
    """The shapes of rows and the dtypes of the columns."""
    kinds: list[Any] = []
    for module_id in modules:
        for name, column in columns[module_id].items():
            for path, tensor in tree_items(column):
                assert isinstance(tensor, Tensor)
                kinds.append((module_id, name, path, tuple(tensor.shape[1:]), tensor.dtype))
    return tuple(kinds)
