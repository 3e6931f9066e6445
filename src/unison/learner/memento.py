"""All that a Learner has learned, quick to take after every update, for the one that may have to take its place."""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from unison.learner.snapshot import put_settings_back, settings_of, tensors_of
from unison.learner.state import get_state, set_state

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


class Memento(NamedTuple):
    """The state of a Learner between two updates; its tensors are the Learner's own, so copy or write them at once."""

    num_updates: int
    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    """By optimizer: its param groups without their parameters, and the state of one that steps by itself."""
    rest: dict[str, Any]
    """The component "learner" of the state."""


def take_memento(learner: "TorchLearner") -> Memento:
    """The state of a Learner between two updates, without a copy."""
    for slot in learner.optimizers.slots.values():
        slot.sync()  # something may have replaced a parameter's tensor
    settings = {
        name: (
            [settings_of(options) for options in slot.optimizer.param_groups],
            None if slot.own_step_reason is None else slot.optimizer.state_dict(),
        )
        for name, slot in _slots(learner).items()
    }
    rest = get_state(learner, "learner", None, inference_only=False)["learner"]
    return Memento(learner.counters["num_updates"], _tensors(learner), settings, rest)


def resume(learner: "TorchLearner", memento: Memento) -> None:
    """Go on from a memento of a Learner with the same modules; those that only one of the two has are passed over."""
    own = _tensors(learner)
    with torch.no_grad():
        for name in own.keys() & memento.tensors.keys():
            own[name].copy_(memento.tensors[name])
    known = {m: values for m, values in memento.rest["coefficients"].items() if m in learner.module}
    set_state(learner, {"learner": {**memento.rest, "coefficients": known}})
    for name, slot in _slots(learner).items():
        if name in memento.settings:
            settings, own_state = memento.settings[name]
            put_settings_back(slot, settings)
            if own_state is not None:
                slot.optimizer.load_state_dict(own_state)
            slot.sync()
            for group in slot.groups:
                group.look_at_counts()


def _slots(learner: "TorchLearner") -> dict[str, Any]:
    return {f"{module_id}/{name}": slot for (module_id, name), slot in learner.optimizers.slots.items()}


def _tensors(learner: "TorchLearner") -> dict[str, Tensor]:
    tensors = tensors_of(learner, list(learner.optimizers.slots.values()))
    for name, parameter in learner.module.named_parameters():
        if not learner.optimizers.is_owned(parameter):
            tensors[f"fixed/{name}"] = parameter.detach()
    return tensors
