"""XLA: all steps of an update as one program of JAX, made from the PyTorch code of the hooks."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions

from unison.errors import MissingExtraError
from unison.learner.engines.cache import cache_directory
from unison.learner.engines.compiled import CompiledEngine
from unison.learner.engines.feed import Feed
from unison.learner.engines.fingerprint import fingerprint
from unison.learner.engines.program import Job, Outputs, Program
from unison.learner.engines.recording import Untraceable
from unison.learner.engines.traced import TracedStep

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

_setting_up = threading.Lock()
from_numpy: Any = getattr(torch, "from_numpy")  # noqa: B009  # torch leaves it untyped


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

    def refusal(self, learner: "TorchLearner") -> str | None:
        """See CompiledEngine.refusal."""
        if learner.device.type != "cpu":
            return f"the engine 'xla' runs on CPUs, and this Learner is on {learner.device}"
        return None

    def build(self, traced: TracedStep) -> Program:
        """See CompiledEngine.build."""
        _set_up_jax()
        from unison.learner.engines.lowering import missing_operations

        missing = missing_operations(traced.graph.module)
        if missing:
            places = f"the operations {missing}" if len(missing) > 1 else f"the operation {missing[0]}"
            raise Untraceable(f"the engine 'xla' does not know {places}")
        key = fingerprint(traced)
        if key not in self._functions:
            self._functions[key] = _make_function(traced)
        return _XlaProgram(traced, self._functions[key])

    def execute(self, jobs: Sequence[Job]) -> list[Outputs]:
        """See CompiledEngine.execute. Modules of the same make take their steps in one call."""
        groups: dict[Any, list[int]] = {}
        for number, job in enumerate(jobs):
            assert isinstance(job.program, _XlaProgram)
            groups.setdefault((id(job.program.function), _shapes(job)), []).append(number)
        outputs: dict[int, Outputs] = {}
        for numbers in groups.values():
            found = run_together([jobs[number] for number in numbers])
            outputs |= dict(zip(numbers, found, strict=True))
        return [outputs[number] for number in range(len(jobs))]


class _XlaProgram(Program):
    """A traced step as a function of JAX, which modules of the same make share."""

    def __init__(self, traced: TracedStep, function: "_Function") -> None:
        self.function = function
        self.kept = [not scratch for scratch in traced.scratch]

    def run(self, state: Sequence[Tensor], captured: Sequence[Tensor], feed: Feed) -> Outputs:
        """See Program.run."""
        return run_together([Job(self, list(state), list(captured), feed)])[0]


@dataclass
class _Function:
    """The compiled loop over steps, for one module and for several of the same make."""

    single: Callable[..., Any]
    several: Callable[..., Any]


def run_together(jobs: Sequence[Job]) -> list[Outputs]:
    """Run jobs of one function and of the same shapes in one call."""
    first = jobs[0].program
    assert isinstance(first, _XlaProgram)
    inputs = [_inputs(job) for job in jobs]
    jax: Any = import_module("jax")
    alone = len(jobs) == 1
    with jax.enable_x64(True):
        call = first.function.single if alone else first.function.several
        new, metrics, left = call(*(inputs[0] if alone else _stacked(inputs)))
        arrays = [np.asarray(array) for array in new]
        logged, leftover = np.asarray(metrics), [np.asarray(array) for array in left]
    outputs: list[Outputs] = []
    for number, job in enumerate(jobs):
        pick: Any = ... if alone else number
        targets = [tensor for tensor, kept in zip(job.state, first.kept, strict=True) if kept]
        for tensor, array in zip(targets, arrays, strict=True):
            np.copyto(_array(tensor), array[pick])
        rest = [_tensor(array[pick]) for array in leftover]
        outputs.append(Outputs(logged[pick][: job.feed.count], rest))
    return outputs


def _inputs(job: Job) -> tuple[Any, ...]:
    """The arguments of a function: state, captured, columns, indices, shares, noise, count."""
    feed = job.feed
    lengths = [len(t) for t in (*feed.indices, *feed.noise, *(s for s in feed.shares if s is not None))]
    steps = _capacity(max(lengths, default=feed.count))
    return (
        [_array(tensor) for tensor in job.state],
        [_array(tensor) for tensor in job.captured],
        [_padded(_array(column), _capacity(len(column))) for column in feed.columns],
        [_padded(index.to(torch.int32).numpy(), steps) for index in feed.indices],
        [None if share is None else _padded(_array(share), steps) for share in feed.shares],
        [_padded(_array(noise), steps) for noise in feed.noise],
        np.int32(feed.count),
    )


def _stacked(inputs: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    parts: list[Any] = []
    for pieces in zip(*inputs, strict=True):
        if isinstance(pieces[0], list):
            parts.append([None if group[0] is None else np.stack(group) for group in zip(*pieces, strict=True)])
        else:
            parts.append(np.stack(pieces))
    return tuple(parts)


def _shapes(job: Job) -> Any:
    feed = job.feed
    columns = tuple((_capacity(len(c)), *c.shape[1:]) for c in feed.columns)
    return columns, tuple(_capacity(len(i)) for i in feed.indices)


def _make_function(traced: TracedStep) -> _Function:
    """The program: a loop over steps, each of which picks its rows and moves the state."""
    from unison.learner.engines.lowering import to_jax
    from unison.learner.engines.lowering.table import jax, jnp, lax

    step = to_jax(traced.graph.module)
    gathers = traced.gathers()
    kept = [not scratch for scratch in traced.scratch]
    num_state, num_metrics = len(traced.graph.state), traced.layout.num_metrics

    def take(
        number: Any, state: Any, captured: Any, columns: Any, indices: Any, shares: Any, noise: Any
    ) -> tuple[list[Any], Any, list[Any]]:
        leaves: list[Any] = []
        for gather, share in zip(gathers, shares, strict=True):
            if gather is not None:
                leaves.append(columns[gather[0]][indices[gather[1]][number]])
            else:
                leaves.append(jnp.zeros(()) if share is None else share[number])
        results = step([*state, *captured, *leaves, *(n[number] for n in noise)])
        new, outputs = results[:num_state], results[num_state:]
        logged = [o.astype(jnp.float32).reshape(()) for o in outputs[:num_metrics]]
        return new, jnp.stack(logged) if logged else jnp.zeros((0,), jnp.float32), outputs[num_metrics:]

    def update(
        state: Any, captured: Any, columns: Any, indices: Any, shares: Any, noise: Any, count: Any
    ) -> tuple[list[Any], Any, list[Any]]:
        inputs = (captured, columns, indices, shares, noise)
        scratch = [jnp.zeros((), s.dtype) for s in state]

        def whole(carried: list[Any]) -> list[Any]:
            places = iter(carried)
            return [next(places) if keep else s for keep, s in zip(kept, scratch, strict=True)]

        def body(number: Any, carry: Any) -> Any:
            carried, logged, _ = carry
            new, row, left = take(number, whole(carried), *inputs)
            return [n for n, keep in zip(new, kept, strict=True) if keep], logged.at[number].set(row), left

        start = [s for s, keep in zip(state, kept, strict=True) if keep]
        shapes = jax.eval_shape(lambda: take(0, whole(start), *inputs))
        steps = next((i.shape[0] for i in (*indices, *noise) if i is not None), None) or 1
        logged = jnp.zeros((steps, *shapes[1].shape), jnp.float32)
        left = [jnp.zeros(s.shape, s.dtype) for s in shapes[2]]
        return lax.fori_loop(0, count, body, (start, logged, left))

    def update_several(*inputs: Any) -> Any:
        def one(each: Any) -> Any:
            return update(*each)

        return lax.map(one, inputs)

    return _Function(jax.jit(update), jax.jit(update_several))


def _array(tensor: Tensor) -> Any:
    if tensor.dtype is torch.bfloat16:
        half: Any = import_module("ml_dtypes").bfloat16  # a part of JAX
        return tensor.detach().view(torch.int16).numpy().view(half)
    return tensor.detach().numpy()


def _tensor(array: Any) -> Tensor:
    if array.dtype.name == "bfloat16":
        return from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return from_numpy(array.copy())


def _capacity(count: int) -> int:
    """`count`, rounded up to one of few sizes, so that batches of changing length share a program."""
    if count <= 64:
        return max(count, 1)
    grain = 1 << (count.bit_length() - 4)
    return -(-count // grain) * grain


def _padded(array: Any, rows: int) -> Any:
    missing = rows - array.shape[0]
    if missing <= 0:
        return array
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])


def _set_up_jax() -> None:
    """Threads and the cache of compiled programs, where the user has not set them."""
    with _setting_up:
        if "XLA_FLAGS" not in os.environ and torch.get_num_threads() == 1:
            os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        jax: Any = import_module("jax")
        if jax.config.jax_compilation_cache_dir is None:
            jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "xla"))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
