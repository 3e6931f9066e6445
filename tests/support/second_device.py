"""A second device, "second", in any process that imports this: torch's own arithmetic, in memory of its own.

Its tensors refuse to be mixed with those of the CPU as those of a GPU do: only copies go from one to the other, and of
the CPU's tensors only single numbers and indices are taken. The device is registered as that of a vendor would be
(PrivateUse1), so that modules, autograd and optimizers treat it as a device.

Autograd counts the devices at its first backward pass, and a process that has one such device keeps it. So
`on_second_device` runs a test in a process of its own.
"""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, wraps
from typing import Any

import cloudpickle
import torch
from torch.utils import _pytree as pytree

NAME = "second"


class SecondTensor(torch.Tensor):
    """A tensor on the second device: `raw`, which only this file sees, holds its numbers."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls: type["SecondTensor"], raw: torch.Tensor) -> "SecondTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )
        made.raw = raw
        return made

    def __repr__(self) -> str:
        return f"second({self.raw!r})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # What torch does to a tensor itself, without asking its device.
        if func == torch.Tensor.data.__set__:
            assert isinstance(args[1], SecondTensor), "the data of a parameter stays on its device"
            args[0].raw = args[1].raw
            return None
        if func in (torch.Tensor.data_ptr, torch.Tensor.tolist):
            return func(args[0].raw)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """One operation on the second device; tensors that it returns are on that device as well."""
    aten = torch.ops.aten
    leaves, spec = pytree.tree_flatten((args, kwargs))
    if func not in (aten.copy_.default, aten._to_copy.default):
        indices = args[1] if func in (aten.index.Tensor, aten.index_put_.default) else ()
        for leaf in leaves:
            on_host = isinstance(leaf, torch.Tensor) and not isinstance(leaf, SecondTensor)
            if on_host and leaf.dim() and not any(leaf is index for index in indices):
                raise RuntimeError(f"{func}: tensors on two devices, {NAME} and {leaf.device}.")
    target = kwargs.get("device")
    plain_args, plain_kwargs = pytree.tree_unflatten([_plain(leaf) for leaf in leaves], spec)
    result = func(*plain_args, **plain_kwargs)
    if func is aten.copy_.default:
        return args[0]
    if target is not None and torch.device(target).type == "cpu":
        return result
    given = {id(leaf.raw): leaf for leaf in leaves if isinstance(leaf, SecondTensor)}
    # An operation in place returns what it was given.
    return pytree.tree_map_only(
        torch.Tensor, lambda raw: given[id(raw)] if id(raw) in given else SecondTensor(raw), result
    )


def _plain(leaf: Any) -> Any:
    if isinstance(leaf, SecondTensor):
        return leaf.raw
    return torch.device("cpu") if isinstance(leaf, torch.device) else leaf


def _copy_from(source: torch.Tensor, target: torch.Tensor, _: bool = False) -> torch.Tensor:
    _plain(target).copy_(_plain(source))
    return target


def register() -> Any:
    """Make the device known to torch; what returns must be kept."""
    torch.utils.backend_registration._setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL")
    for name in ("empty.memory_format", "empty_strided"):
        operation, _, overload = name.partition(".")
        func = getattr(getattr(torch.ops.aten, operation), overload or "default")

        def make(*args: Any, func: Any = func, **kwargs: Any) -> SecondTensor:
            return SecondTensor(func(*args, **{**kwargs, "device": torch.device("cpu")}))

        library.impl(name, make, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    return library


def on_second_device(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a process that has the second device."""

    cloudpickle.register_pickle_by_value(sys.modules[test.__module__])

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        _process().submit(_call, cloudpickle.dumps((test, args, kwargs))).result()

    return run


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_begin)


_kept: list[Any] = []


def _begin() -> None:
    torch.set_num_threads(1)
    _kept.append(register())


def _call(pickled: bytes) -> None:
    test, args, kwargs = cloudpickle.loads(pickled)
    test(*args, **kwargs)
