"""One step of a Learner as a list of operations: recorded while it really runs, then undone.

The recorder sits below autograd, so it sees the backward pass as plain operations too, whoever
asked for it. Tensors that the step finds (parameters, optimizer state, coefficients) become inputs
by what they are, not by what a list says; those it writes into are the state of the program.
"""

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unison.learner.engines.torch_parts import Watcher, pytree

_TORCH = str(torch.__file__).rsplit("/", 1)[0]
_HERE = __file__.rsplit("/", 1)[0]

_READS: dict[Any, str] = {
    getattr(Tensor, name): f"Tensor.{name}"
    for name in ("numpy", "tolist", "item", "__array__", "__bool__", "__float__", "__int__", "__index__", "data_ptr")
}


class Untraceable(Exception):
    """Something in a step that no compiled program can honour; the message says what and where."""


@dataclass(frozen=True)
class Ref:
    """The value number `index` of a recording."""

    index: int


@dataclass
class Call:
    """One operation: what ran, on which values, and which values came out (None: not a tensor)."""

    operator: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Ref | None]
    place: str

    @property
    def draws(self) -> bool:
        """Whether it draws random numbers."""
        return torch.Tag.nondeterministic_seeded in self.operator.tags

    @property
    def mutates(self) -> bool:
        """Whether it writes into an argument."""
        return bool(self.operator._schema.is_mutable)


@dataclass
class Recording:
    """What a step did.

    Args:
        inputs: the minibatch's tensors.
        externals: tensors that the step found elsewhere.
        before: copies of the storages that it wrote to, from before, by storage.
        after: the same from after the step.
        values: every tensor that it made or met, by number.
        drawn: the random numbers that it drew, in order.
        result: what the step returned, tensors as `Ref`.
    """

    calls: list[Call] = field(default_factory=list[Call])
    inputs: list[tuple[Ref, Tensor]] = field(default_factory=list[tuple[Ref, Tensor]])
    externals: list[tuple[Ref, Tensor]] = field(default_factory=list[tuple[Ref, Tensor]])
    before: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    after: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    values: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    drawn: list[Tensor] = field(default_factory=list[Tensor])
    result: Any = None

    def ref_of(self, tensor: Tensor) -> Ref | None:
        """The number of a tensor that the step made, or None."""
        return next((Ref(index) for index, value in self.values.items() if value is tensor), None)

    def difference(self, other: "Recording") -> str | None:
        """Where another recording of the same step differs, or None."""
        for mine, theirs in zip(self.calls, other.calls, strict=False):
            if (mine.operator, mine.args, mine.kwargs, mine.outputs) != (
                theirs.operator, theirs.args, theirs.kwargs, theirs.outputs
            ):  # fmt: skip
                return mine.place
        if len(self.calls) != len(other.calls):
            return self.calls[-1].place if self.calls else "the step"
        for (_, mine), (_, theirs) in zip(self.externals, other.externals, strict=True):
            if mine is not theirs and not ((mine == theirs) | (mine != mine) & (theirs != theirs)).all():
                return "a constant tensor made in the step"
        return None


def _itself(argument: Any) -> Any:
    """An argument that is equal to itself, as NaN is only where it is the same object."""
    return math.nan if isinstance(argument, float) and math.isnan(argument) else argument


def storage_of(tensor: Tensor) -> int:
    """What names the memory that a tensor lies in."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]  # it has no public name


def whole_storage(tensor: Tensor) -> Tensor:
    """All memory that a tensor is a view of, as one dimension."""
    storage = tensor.untyped_storage()
    flat = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return flat.set_(storage, 0, (storage.nbytes() // tensor.element_size(),), (1,))


def current_place() -> str:
    """File, line and function of the innermost frame that is neither torch's nor an engine's."""
    frame: Any = inspect.currentframe()
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _HERE)) and "<" not in name:
            return f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return "the step"


def record(step: Callable[[], Any], inputs: Sequence[Tensor]) -> Recording:
    """Run `step()`, write down its operations, and undo what it wrote.

    Args:
        step: returns a tree of tensors and numbers.
        inputs: the tensors of its minibatch; it may write into them.

    Raises:
        Untraceable: the step reads a tensor's value in Python, or something else that can't be recorded.
    """
    recorder = _Recorder(inputs)
    device = inputs[0].device
    states = torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        with _uncompiled(), _NoReads(), recorder:
            result = step()
        return recorder.finish(result)
    finally:
        torch.set_rng_state(states[0])
        if states[1] is not None:
            torch.cuda.set_rng_state(states[1], device)
        recorder.undo()


def _uncompiled() -> AbstractContextManager[None]:
    """What users gave to torch.compile runs as it is written. Where they use none of it, its import would take long."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


class _NoReads(TorchFunctionMode):
    """Refuses to hand values of tensors to Python, where a program could not follow them."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _READS:
            raise Untraceable(f"{current_place()} reads the value of a tensor in Python ({_READS[func]})")
        return func(*args, **(kwargs or {}))


class _Recorder(Watcher):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self._recording = Recording()
        self._refs: dict[int, Ref] = {}
        self._made: set[int] = set()
        self._generators: list[tuple[torch.Generator, Tensor]] = []
        for tensor in inputs:
            self._recording.inputs.append((self._name(tensor), tensor))
            self._made.add(storage_of(tensor))

    def finish(self, result: Any) -> Recording:
        """The recording, with what the step returned."""
        recording = self._recording

        def ref(value: Any) -> Any:
            return self._ref(value) if isinstance(value, Tensor) else value

        recording.result = pytree.tree_map(ref, result)
        for _, tensor in recording.externals:
            if storage_of(tensor) in recording.before:
                recording.after.setdefault(storage_of(tensor), whole_storage(tensor.detach()).clone())
        return recording

    def undo(self) -> None:
        """Put back what the step wrote into."""
        undone: set[int] = set()
        for _, tensor in self._recording.externals:
            storage = storage_of(tensor)
            if storage in self._recording.before and storage not in undone:
                whole_storage(tensor.detach()).copy_(self._recording.before[storage])
                undone.add(storage)
        for generator, generator_state in self._generators:
            generator.set_state(generator_state)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = dict(kwargs or {})
        if func is torch.ops.aten.native_batch_norm.default and args[3] is not None:
            func = torch.ops.aten._native_batch_norm_legit.default  # the same, with a schema that says what it writes
        place = current_place()
        self._refuse(func, args, place)
        flat, structure = pytree.tree_flatten((args, keywords))
        sources = {storage_of(a) for a in flat if isinstance(a, Tensor)}
        refs = [self._ref(a) if isinstance(a, Tensor) else _itself(a) for a in flat]
        ref_args, ref_keywords = pytree.tree_unflatten(refs, structure)
        if func._schema.is_mutable:
            self._keep(func, args, keywords)
        known_generators = [generator for generator, _ in self._generators]
        self._generators += [
            (g, g.get_state()) for g in flat if isinstance(g, torch.Generator) and g not in known_generators
        ]
        result: Any = func(*args, **keywords)
        outputs: list[Ref | None] = []
        for value in _listed(result):
            if not isinstance(value, Tensor):
                if value is not None:
                    raise Untraceable(f"{place} reads the value of a tensor in Python ({func})")
                outputs.append(None)
                continue
            known = self._refs.get(id(value))
            outputs.append(known or self._name(value))
            if known is None and storage_of(value) not in sources:
                self._made.add(storage_of(value))
        call = Call(func, ref_args, ref_keywords, outputs, place)
        self._recording.calls.append(call)
        if call.draws and isinstance(result, Tensor):
            self._recording.drawn.append(result.detach().clone())
        return result

    def _refuse(self, func: Any, args: tuple[Any, ...], place: str) -> None:
        if torch.Tag.dynamic_output_shape not in func.tags:
            return
        if func is torch.ops.aten.index.Tensor and not any(i is not None and i.dtype is torch.bool for i in args[1]):
            return
        raise Untraceable(f"{place} makes a shape that depends on values ({func}); torch.where keeps shapes fixed")

    def _name(self, tensor: Tensor) -> Ref:
        ref = self._refs[id(tensor)] = Ref(len(self._recording.values))
        self._recording.values[ref.index] = tensor
        return ref

    def _ref(self, tensor: Tensor) -> Ref:
        found = self._refs.get(id(tensor))
        if found is None:
            if storage_of(tensor) in self._made:
                raise Untraceable(f"{current_place()} uses memory of the step in a way that torch does not show")
            found = self._name(tensor)
            self._recording.externals.append((found, tensor))
        return found

    def _keep(self, func: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = args[position] if position < len(args) else keywords.get(argument.name)
            for tensor in _listed(value):
                if not isinstance(tensor, Tensor) or storage_of(tensor) in self._made:
                    continue
                if storage_of(tensor) not in self._recording.before:
                    self._recording.before[storage_of(tensor)] = whole_storage(tensor.detach()).clone()


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]  # pyright: ignore[reportUnknownArgumentType]
