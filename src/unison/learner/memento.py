"""All that a Learner has learned, quick to take: for the one that may have to take its place, or to go back to."""

import copy
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from unison.learner.held import held_buffers, held_parameters
from unison.learner.snapshot import put_settings_back, settings_of
from unison.learner.state import get_state, set_rest

if TYPE_CHECKING:
    from unison.learner.optimizer_slot import OptimizerSlot
    from unison.learner.torch_learner import TorchLearner


class Memento(NamedTuple):
    """The state of a Learner between two updates; its tensors are the Learner's own, so copy or write them at once."""

    num_updates: int
    tensors: dict[str, Any]
    """Numpy arrays, which travel faster, where numpy knows the type."""
    settings: dict[str, Any]
    """By optimizer: its param groups without their parameters, and the state of one that steps by itself."""
    rest: dict[str, Any]
    """The component "learner" of the state."""


def take_memento(learner: "TorchLearner") -> Memento:
    """The state of a Learner between two updates, without a copy; its optimizers are in sync (see OptimizerSlot)."""
    settings = {
        name: (
            [settings_of(options) for options in slot.optimizer.param_groups],
            None if slot.own_step_reason is None else slot.optimizer.state_dict(),
        )
        for name, slot in _slots(learner).items()
    }
    rest = get_state(learner, "learner", None, inference_only=False)["learner"]
    tensors = {name: _quick(tensor.detach()) for name, tensor in _tensors(learner).items()}
    return Memento(learner.counters["num_updates"], tensors, settings, rest)


def resume(learner: "TorchLearner", memento: Memento) -> None:
    """Go on from a memento of a Learner with the same modules; those that only one of the two has are passed over."""
    own = _tensors(learner)
    with torch.no_grad():
        for name in own.keys() & memento.tensors.keys():
            own[name].copy_(torch.as_tensor(memento.tensors[name]))
    known = {m: values for m, values in memento.rest["coefficients"].items() if m in learner.module}
    set_rest(learner, {**memento.rest, "coefficients": known})  # As it was, be it as it may.
    learner.last_snapshot = None
    for name, slot in _slots(learner).items():
        if name in memento.settings:
            settings, own_state = memento.settings[name]
            put_settings_back(slot, settings)
            if own_state is not None:
                slot.optimizer.load_state_dict(own_state)
            slot.sync()
            for group in slot.groups:
                group.look_at_counts()


@contextmanager
def wholly_or_not(learner: "TorchLearner") -> Generator[Memento]:
    """Change a Learner within; on an error it goes back to what it was, a copy of which this gives."""
    learner.optimizers.sync()
    before = copy.deepcopy(take_memento(learner))
    try:
        yield before
    except BaseException:
        resume(learner, before)
        raise


def _slots(learner: "TorchLearner") -> dict[str, "OptimizerSlot"]:
    return {f"{module_id}/{name}": slot for (module_id, name), slot in learner.optimizers.slots.items()}


def _tensors(learner: "TorchLearner") -> dict[str, Tensor]:
    """What is not in the other parts: flat buffers, few however many layers there are, and what no optimizer moves."""
    tensors: dict[str, Tensor] = {}
    for slot_name, slot in _slots(learner).items():
        for number, group in enumerate(slot.groups):
            kept = {"parameters": group.parameters, "count": group.count, **group.moments}
            tensors |= {f"{slot_name}/{number}/{name}": tensor for name, tensor in kept.items()}
    # Torch's own walks make names, which takes longer than all the rest, and mostly for nothing.
    module, is_owned = learner.module, learner.optimizers.is_owned
    if next(held_buffers(module), None) is not None:
        tensors |= {f"buffers/{name}": buffer for name, buffer in module.named_buffers()}
    if not all(map(is_owned, held_parameters(module))):
        tensors |= {f"fixed/{name}": p for name, p in module.named_parameters() if not is_owned(p)}
    return tensors


def _quick(tensor: Tensor) -> Any:
    return tensor.numpy() if tensor.device.type == "cpu" and tensor.dtype is not torch.bfloat16 else tensor
