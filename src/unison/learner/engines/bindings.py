"""Which tensors of a Learner a program's inputs are; found again by name where they were replaced."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unison.learner.engines.graph import View, external_views
from unison.learner.engines.recording import Untraceable
from unison.learner.engines.torch_parts import pointers
from unison.learner.engines.watching import Attributes, Path, frozen, links, resolve, tensors_below
from unison.learner.links import Links

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

_SCALARS = (int, float, str, bool, type(None))
_PARTS = ("_parameters", "_modules", "_buffers", "_forward_hooks", "_forward_pre_hooks")
"""Where torch.nn.Module keeps what it consists of; who a buffer is may change, for `Bindings` follows it."""


class Bindings:
    """The external tensors of a program.

    Programs outlive the tensors they were traced with: a loaded state or a moved module puts others
    in their place. As long as these lie in memory in the same way, the program goes on with them.

    Args:
        learner: whose tensors they are.
        tensors: the external tensors, in the order of the recording.
        views: the same as pieces of storages.
    """

    def __init__(self, learner: "TorchLearner", tensors: Sequence[Tensor], views: list[View]) -> None:
        paths = tensors_below(learner)
        self._learner = learner
        self._tensors = list(tensors)
        self._paths: list[Path | None] = [paths.get(id(tensor)) for tensor in tensors]
        self._views = views
        self._pointers = pointers(tensors)
        self._links = links(learner, [path for path in self._paths if path is not None])
        self.storages = external_views(self._tensors)[1]

    def refresh(self) -> bool:
        """Follow tensors that were replaced; False if they lie differently now: then the step must be traced anew."""
        if not self._links.hold():
            for i, path in enumerate(self._paths):
                if path is None:
                    continue
                try:
                    found = resolve(self._learner, path)
                except (LookupError, TypeError):
                    return False
                if not isinstance(found, Tensor):
                    return False
                self._tensors[i] = found
            self._links = links(self._learner, [path for path in self._paths if path is not None])
        elif pointers(self._tensors) == self._pointers:
            return True
        try:
            views, storages = external_views(self._tensors)
        except Untraceable:
            return False
        if views != self._views or any(a.shape != b.shape for a, b in zip(storages, self.storages, strict=True)):
            return False
        self._pointers = pointers(self._tensors)
        self.storages = storages
        return True


class Guards:
    """The plain Python values that a trace has frozen; a program is valid while they stay.

    Args:
        learner: the Learner.
        module_ids: the modules that the step concerns.
        read: the Learner's attributes that the step read, as `frozen` shows them.
    """

    def __init__(self, learner: "TorchLearner", module_ids: Sequence[str], read: dict[str, Any]) -> None:
        self._learner = learner
        self._module_ids = tuple(module_ids)
        self._read = read
        self._modules = [learner.module[m] for m in module_ids]
        self._configs = [learner.config_for_module(m) for m in module_ids]
        self._slots = learner.optimizers.active(module_ids)
        self._options = self._current_options()
        within = [vars(module) for m in self._modules for module in m.modules()]
        self._flags = [
            (attributes, {key: value for key, value in attributes.items() if isinstance(value, _SCALARS)})
            for attributes in within
        ]
        self._flag_links = Links()
        for attributes, flags in self._flags:
            for name in flags:
                self._flag_links.add(attributes, name)
        self._parts = [attributes[name] for attributes in within for name in _PARTS]
        self._counts = [len(part) for part in self._parts]
        self._part_links = Links()
        for part in (attributes[name] for attributes in within for name in ("_parameters", "_modules")):
            for name in part:
                self._part_links.add(part, name)
        self._parameters = [p for m in self._modules for p in m.parameters()]
        self._trainable = [p.requires_grad for p in self._parameters]

    def violation(self, attributes: Attributes | None = None) -> str | None:
        """What has changed since the trace, or None; `attributes` are the Learner's, which many guards share."""
        attributes = Attributes(self._learner) if attributes is None else attributes
        learner = self._learner
        for module_id, module, config in zip(self._module_ids, self._modules, self._configs, strict=True):
            if module_id not in learner.module or learner.module[module_id] is not module:
                return f"module '{module_id}'"
            if learner.config_for_module(module_id) is not config:
                return f"the settings of module '{module_id}'"
        slots = learner.optimizers.active(self._module_ids)
        if len(slots) != len(self._slots) or any(a is not b for a, b in zip(slots, self._slots, strict=True)):
            return "the optimizers"
        if self._current_options() != self._options:
            return "the options of an optimizer"
        if not self._flag_links.hold():  # comparing is slow: most are the same objects
            for now, flags in self._flags:
                if not flags.items() <= now.items():
                    return f"the attribute '{next(f for f in flags.items() if f not in now.items())[0]}' of a module"
        if not self._part_links.hold() or [len(part) for part in self._parts] != self._counts:
            return "what a module consists of"
        if [p.requires_grad for p in self._parameters] != self._trainable:
            return "which parameters train"
        for name, value in self._read.items():
            now = attributes[name]
            if now is not value:
                if now != value:
                    return f"the attribute '{name}' of the Learner"
                self._read[name] = now  # comparing is slow: next time it is the same object
        return None

    def _current_options(self) -> list[tuple[dict[str, Any], bool]]:
        return [
            ({n: frozen(value) for n, value in group.options.items() if n not in ("params", "lr")}, group.is_uniform)
            for slot in self._slots
            for group in slot.groups
        ]


def is_scratch(learner: "TorchLearner", storage: Tensor) -> bool:
    """Whether a storage is a buffer of gradients, which nobody reads after a step."""
    pointer = storage.data_ptr()
    return any(
        group.gradients.data_ptr() == pointer and group.gradients.numel() == storage.numel()
        for slot in learner.optimizers.slots.values()
        for group in slot.groups
    )
