"""XLA: all steps of an update as one program of JAX, made from the PyTorch code of the hooks."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import compress
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions

from unison.errors import MissingExtraError
from unison.learner.engines.cache import cache_directory
from unison.learner.engines.compiled import CompiledEngine
from unison.learner.engines.engine import BeforeChange, no_copies
from unison.learner.engines.feed import Feed
from unison.learner.engines.fingerprint import fingerprint
from unison.learner.engines.program import Job, Outputs, Program
from unison.learner.engines.recording import Untraceable
from unison.learner.engines.together import Together, stacked
from unison.learner.engines.torch_parts import pointers
from unison.learner.engines.traced import TracedStep

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

Array = np.ndarray[Any, Any]
_setting_up = threading.Lock()
_OPTIONS = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_copy_insertion_use_region_analysis": True}
"""Of XLA's compiler. By itself it takes half of the width that processors with AVX-512 have, and copies more of what a
loop carries than it has to. With one thread nothing is handed to others: that costs as much as a small product."""
_LARGE = 1024
"""Numbers; fewer are copied in no more time than it takes to say where a copy is."""


def is_available() -> bool:
    """Whether JAX is installed."""
    return find_spec("jax") is not None


class XlaEngine(CompiledEngine):
    """Steps as programs of XLA on the CPU; needs JAX (the extra `xla`).

    Raises:
        MissingExtraError: JAX is not installed.
    """

    name = "xla"

    def __init__(self) -> None:
        super().__init__(core_aten_decompositions())
        if not is_available():
            raise MissingExtraError("jax", "xla", "engine='xla'")
        self._functions: dict[str, _Function] = {}
        self._together = Together(_likeness, run_together, self.compiling)
        self.max_operations: int | None = None
        """Longer steps, such as unrolled recurrent layers, are refused: compiling them takes minutes and gigabytes."""

    def refusal(self, learner: "TorchLearner") -> str | None:
        """See CompiledEngine.refusal."""
        if learner.device.type != "cpu":
            return f"the engine 'xla' runs on CPUs, and this Learner is on {learner.device}"
        return None

    def build(self, traced: TracedStep) -> Program:
        """See CompiledEngine.build."""
        _set_up_jax()
        from unison.learner.engines.lowering import missing_operations

        operations = len(traced.graph.module.graph.nodes)
        if self.max_operations is not None and operations > self.max_operations:
            raise Untraceable(f"XLA would compile {operations} operations for minutes; engine='xla' makes it do so")
        missing = missing_operations(traced.graph.module)
        if missing:
            places = f"the operations {missing}" if len(missing) > 1 else f"the operation {missing[0]}"
            raise Untraceable(f"the engine 'xla' does not know {places}")
        key = fingerprint(traced)
        if key not in self._functions:
            self._functions[key] = _make_function(traced)
        return _XlaProgram(traced, self._functions[key])

    def execute(self, jobs: Sequence[Job], before_change: BeforeChange) -> list[Outputs]:
        """See CompiledEngine.execute. Modules of the same make take their steps in one call."""
        return self._together.execute(jobs, before_change)


class _XlaProgram(Program):
    """A traced step as a function of JAX, which modules of the same make share."""

    def __init__(self, traced: TracedStep, function: "_Function") -> None:
        self.function = function
        self.make = id(function)
        self.kept = [not scratch for scratch in traced.scratch]
        self.tolerance = traced.tolerance
        self._state: list[Tensor] = []
        self._memory: list[Array] = []

    def run(self, state: Sequence[Tensor], captured: Sequence[Tensor], feed: Feed) -> Outputs:
        """See Program.run."""
        return run_together([Job(self, list(state), list(captured), feed)], 1, no_copies)[0]

    def memory(self, state: Sequence[Tensor]) -> list[Array]:
        """The pieces of state that count after a step, as arrays on the same memory; made once for the same tensors."""
        if len(state) != len(self._state) or not all(map(is_, state, self._state)):
            self._state = list(state)
            self._memory = [_as_array(tensor) for tensor, kept in zip(state, self.kept, strict=True) if kept]
        return self._memory


@dataclass
class _Function:
    """The compiled loop over steps, for one module and for several of the same make."""

    single: Callable[..., Any]
    several: Callable[..., Any]


def run_together(jobs: Sequence[Job], places: int, before_change: BeforeChange) -> list[Outputs]:
    """Run jobs of one function and of the same shapes in one call; the other places take no step."""
    jax: Any = import_module("jax")
    programs = [job.program for job in jobs if isinstance(job.program, _XlaProgram)]
    memories = [program.memory(job.state) for program, job in zip(programs, jobs, strict=True)]
    function = programs[0].function
    states = [list(compress(job.state, job.program.kept)) for job in jobs]
    old = [stacked(group, places) for group in zip(*states, strict=True)]
    with jax.enable_x64(True):
        call = function.single if places == 1 else function.several
        new, metrics, left = call(list(map(_as_array, old)), *_arguments(jobs, places))
        logged, arrays = np.asarray(metrics), [np.asarray(array) for array in new]
        leftover = [torch.from_dlpack(array).clone() for array in left]
    before_change({} if places == 1 else _by_address(states, old))
    if places == 1:
        arrays, logged, leftover = ([a[None] for a in arrays], logged[None], [a.unsqueeze(0) for a in leftover])
    for place, memory in enumerate(memories):
        for target, array in zip(memory, arrays, strict=True):
            target[...] = array[place]
    return [
        Outputs(logged[number][: job.feed.count], [tensor[number] for tensor in leftover])
        for number, job in enumerate(jobs)
    ]


def _by_address(states: Sequence[Sequence[Tensor]], copies: Sequence[Tensor]) -> dict[int, Tensor]:
    """The states of jobs that lie side by side in `copies`, by the address of the original."""
    groups = zip(zip(*states, strict=True), copies, strict=True)
    large = [(group, whole) for group, whole in groups if group[0].numel() >= _LARGE]
    return {
        address: copied
        for group, whole in large
        for address, copied in zip(pointers(group), whole.unbind(), strict=False)
    }


def _arguments(jobs: Sequence[Job], places: int) -> tuple[Any, ...]:
    """What a function takes besides state: captured, columns, indices, shares, noise, count, room; stacked for places.

    Its room is for so many steps, of which it takes `count`: an array without meaning but its length.
    """
    feeds = [job.feed for job in jobs]
    lengths = [t.shape[0] for f in feeds for t in (*f.indices, *f.noise, *(s for s in f.shares if s is not None))]
    steps = _capacity(max(lengths, default=max(feed.count for feed in feeds)))

    def joined(
        groups: Iterable[Sequence[Tensor | None]], rows: Callable[[int], int] | None = None, dtype: Any = None
    ) -> list[Any]:
        return [None if group[0] is None else _joined(group, places, rows, dtype) for group in groups]

    counts = [*(feed.count for feed in feeds), *[0] * (places - len(jobs))]
    return (
        joined(zip(*(job.captured for job in jobs), strict=True)),
        joined(zip(*(feed.columns for feed in feeds), strict=True), _capacity),
        joined(zip(*(feed.indices for feed in feeds), strict=True), lambda _: steps, torch.int32),
        joined(zip(*(feed.shares for feed in feeds), strict=True), lambda _: steps),
        joined(zip(*(feed.noise for feed in feeds), strict=True), lambda _: steps),
        np.int32(counts[0]) if places == 1 else np.array(counts, np.int32),
        np.zeros(steps if places == 1 else (places, steps), np.bool_),
    )


def _joined(tensors: Sequence[Any], places: int, rows: Callable[[int], int] | None, dtype: Any) -> Any:
    """One array of tensors, stacked where there are several places; `rows` says to what length they are padded."""
    if rows is not None:
        tensors = [_padded(tensor, rows(tensor.shape[0])) for tensor in tensors]
    whole = stacked(tensors, places).detach()
    return _as_array(whole if dtype is None else whole.to(dtype))


def _as_array(tensor: Tensor) -> Array:
    """An array on the same memory, also of bfloat16, which numpy knows through JAX."""
    if tensor.dtype is torch.bfloat16:
        half: Any = import_module("ml_dtypes").bfloat16  # a part of JAX
        return tensor.view(torch.int16).numpy().view(half)
    return tensor.numpy()


def _padded(tensor: Tensor, rows: int) -> Tensor:
    missing = rows - tensor.shape[0]
    return torch.cat([tensor, tensor.new_zeros((missing, *tensor.shape[1:]))]) if missing > 0 else tensor


def _likeness(feed: Feed) -> Any:
    """What feeds of jobs that run together have in common; the shapes of rows are those of their program."""
    return tuple(map(_capacity, map(len, (*feed.columns, *feed.indices))))


def _make_function(traced: TracedStep) -> _Function:
    from unison.learner.engines.lowering import Steps
    from unison.learner.engines.lowering.table import jax

    steps = Steps(traced)
    # Nothing is donated: XLA then reads torch's memory where it lies, and gives the new state memory of its own.
    options = {**_OPTIONS, "xla_cpu_multi_thread_eigen": torch.get_num_threads() > 1}
    single, several = (jax.jit(f, compiler_options=options) for f in (steps.update, steps.update_several))
    return _Function(single, several)


def _capacity(count: int) -> int:
    """`count`, rounded up to one of few sizes, so that batches of changing length share a program."""
    if count <= 64:
        return max(count, 1)
    grain = 1 << (count.bit_length() - 4)
    return -(-count // grain) * grain


def _set_up_jax() -> None:
    """Threads and the cache of compiled programs, where the user has not set them."""
    with _setting_up:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        jax: Any = import_module("jax")
        _start_client(jax)
        if jax.config.jax_compilation_cache_dir is None:
            jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "xla"))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _start_client(jax: Any) -> None:
    """With as many threads as torch has. They are named in the environment, which processes begun later inherit."""
    # Small programs run in the thread that calls them and waits: to wake another takes longer than they do.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if "PJRT_NPROC" in os.environ:
        return
    os.environ["PJRT_NPROC"] = str(torch.get_num_threads())
    try:
        jax.devices()
    finally:
        del os.environ["PJRT_NPROC"]
