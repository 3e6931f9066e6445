"""XLA: all steps of an update as one program of JAX, made from the PyTorch code of the hooks."""

import os
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions

from unison.errors import MissingExtraError
from unison.learner.engines.compiled import CompiledEngine
from unison.learner.engines.feed import Feed
from unison.learner.engines.fingerprint import fingerprint
from unison.learner.engines.program import Outputs, Program
from unison.learner.engines.recording import Untraceable
from unison.learner.engines.traced import TracedStep

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

_setting_up = threading.Lock()


def is_available() -> bool:
    """Whether JAX is installed."""
    return find_spec("jax") is not None


class XlaEngine(CompiledEngine):
    """Steps as programs of XLA on the CPU; needs JAX (the extra `xla`).

    Raises:
        MissingExtraError: JAX is not installed.
    """

    name = "xla"
    plain_rnn = True

    def __init__(self) -> None:
        super().__init__()
        if not is_available():
            raise MissingExtraError("jax", "xla", "engine='xla'")
        self.decompositions = dict(core_aten_decompositions())
        self._functions: dict[str, Callable[..., Any]] = {}

    def refusal(self, learner: "TorchLearner") -> str | None:
        """See CompiledEngine.refusal."""
        if learner.device.type != "cpu":
            return f"the engine 'xla' runs on CPUs, and this Learner is on {learner.device}"
        if learner.collective.world_size > 1:
            return "the engine 'xla' does not sum gradients over several Learners"
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


class _XlaProgram(Program):
    def __init__(self, traced: TracedStep, function: Callable[..., Any]) -> None:
        self._function = function
        self._num_metrics = traced.layout.num_metrics
        self._kept = [not scratch for scratch in traced.scratch]

    def run(self, state: Sequence[Tensor], captured: Sequence[Tensor], feed: Feed) -> Outputs:
        """See Program.run."""
        jax: Any = __import__("jax")
        lengths = [len(t) for t in (*feed.indices, *feed.noise, *(s for s in feed.shares if s is not None))]
        steps = _capacity(max(lengths, default=feed.count))
        with jax.enable_x64(True):
            new, metrics, left = self._function(
                [_array(tensor) for tensor in state],
                [_array(tensor) for tensor in captured],
                [_padded(_array(column), _capacity(len(column))) for column in feed.columns],
                [_padded(index.to(torch.int32).numpy(), steps) for index in feed.indices],
                [None if share is None else _padded(_array(share), steps) for share in feed.shares],
                [_padded(_array(noise), steps) for noise in feed.noise],
                np.int32(feed.count),
            )
            targets = [tensor for tensor, kept in zip(state, self._kept, strict=True) if kept]
            with torch.no_grad():
                for tensor, array in zip(targets, new, strict=True):
                    tensor.copy_(_tensor(array))
            rows_logged = np.asarray(metrics)[: feed.count].tolist()
            return Outputs(rows_logged, [_tensor(array).clone() for array in left])


def _make_function(traced: TracedStep) -> Callable[..., Any]:
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

    return jax.jit(update)


def _array(tensor: Tensor) -> Any:
    if tensor.dtype is torch.bfloat16:
        import ml_dtypes  # a part of JAX

        return tensor.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().contiguous().numpy()


def _tensor(array: Any) -> Tensor:
    found = np.asarray(array)
    if found.dtype.name == "bfloat16":
        return torch.from_numpy(found.view(np.int16).copy()).view(torch.bfloat16)
    found.flags.writeable = found.flags.writeable  # silence nothing: torch only reads it
    return torch.from_numpy(found.copy() if not found.flags.writeable else found)


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
        jax: Any = __import__("jax")
        if jax.config.jax_compilation_cache_dir is None:
            jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "xla"))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def cache_directory() -> Path:
    """Where compiled programs are kept between runs: UNISON_CACHE_DIR, else the user's cache."""
    given = os.environ.get("UNISON_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unison"
