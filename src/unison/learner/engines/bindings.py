"""Which tensors of a Learner a program's inputs are; found again by name where they were replaced."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unison.learner.engines.frozen import difference, frozen
from unison.learner.engines.graph import View, external_views
from unison.learner.engines.group_spy import Setting
from unison.learner.engines.module_values import ModuleValues
from unison.learner.engines.recording import Untraceable
from unison.learner.engines.torch_parts import pointers
from unison.learner.engines.watching import MACHINERY, Attributes, Path, Spy, links, readable, resolve, tensors_below
from unison.learner.links import Links

if TYPE_CHECKING:
    from unison.learner.optimizer_slot import OptimizerSlot
    from unison.learner.torch_learner import TorchLearner

_SCALARS = (int, float, str, bool, type(None))
_FOLLOWED = ("params", "lr")
"""What programs take anew from the param groups of an optimizer in every update."""
_PARTS = ("_parameters", "_modules", "_forward_hooks", "_forward_pre_hooks")
"""Where torch.nn.Module keeps what it consists of, besides buffers."""
_WITHOUT_FLAGS = ("torch", "builtins", "typing")
"""Packages in whose classes nobody sets what a step reads."""
_requires_grad = attrgetter("requires_grad")


class Bindings:
    """The external tensors of a program.

    Programs outlive the tensors they were traced with: a loaded state or a moved module puts others
    in their place. As long as these lie in memory in the same way, the program goes on with them.

    Args:
        learner: whose tensors they are.
        slots: the optimizers that step. Parameters that they move lie where they did when the optimizers were last
            synchronized, which is at the start of every update.
        tensors: the external tensors, in the order of the recording.
        views: the same as pieces of storages.
    """

    def __init__(
        self,
        learner: "TorchLearner",
        slots: Sequence["OptimizerSlot"],
        tensors: Sequence[Tensor],
        views: list[View],
    ) -> None:
        paths = tensors_below(learner, MACHINERY)
        self._learner = learner
        self._tensors = list(tensors)
        self._paths: list[Path | None] = [paths.get(id(tensor)) for tensor in tensors]
        self._views = views
        moved = {id(t) for slot in slots for t in (*slot.refs.values(), *slot.gradient_views.values())}
        self._watched = [number for number, tensor in enumerate(tensors) if id(tensor) not in moved]
        self._pointers = self._current_pointers()
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
        elif self._current_pointers() == self._pointers:
            return True
        try:
            views, storages = external_views(self._tensors)
        except Untraceable:
            return False
        if views != self._views or any(a.shape != b.shape for a, b in zip(storages, self.storages, strict=True)):
            return False
        self._pointers = self._current_pointers()
        self.storages = storages
        return True

    def _current_pointers(self) -> list[int]:
        return pointers(map(self._tensors.__getitem__, self._watched))


class Guards:
    """The plain Python values that a trace has frozen; a program is valid while they stay.

    Args:
        learner: the Learner.
        module_ids: the modules that the step concerns.
        spy: knows which of the Learner's attributes the step read.
        settings: of optimizers, that the step read.
    """

    def __init__(
        self,
        learner: "TorchLearner",
        module_ids: Sequence[str],
        spy: Spy,
        settings: Sequence[Setting],
    ) -> None:
        self._learner = learner
        self._module_ids = tuple(module_ids)
        self._read, self._readers = spy.read, spy.readers
        self._modules = [learner.module[m] for m in module_ids]
        self._configs = [learner.config_for_module(m) for m in module_ids]
        self._slots = learner.optimizers.active(module_ids)
        self._options = self._current_options()
        # Programs are fed with rates, but a hook that reads one has frozen it; and it may read other optimizers.
        self._settings = {each: each.value() for each in settings if self._is_to_guard(each)}
        within = [module for m in self._modules for module in m.modules()]
        self._flags = [(module, _flags(module)) for module in within]
        self._same = self._note_values()
        self._values = ModuleValues(within)
        self._parts = _note_parts([vars(module) for module in within])
        self._parameters = [p for m in self._modules for p in m.parameters()]
        self._trainable = list(map(_requires_grad, self._parameters))

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
        if not self._same.hold():  # comparing is slow: most are the same objects
            if self._current_options() != self._options:
                return "the options of an optimizer"
            for setting, value in self._settings.items():
                if setting.value() != value:
                    return str(setting)
            for module, flags in self._flags:
                now = _flags(module)
                if not flags.items() <= now.items():
                    return f"the attribute '{next(f for f in flags.items() if f not in now.items())[0]}' of a module"
            self._same = self._note_values()
        if not self._parts.hold():
            return "what a module consists of"
        if list(map(_requires_grad, self._parameters)) != self._trainable:
            return "which parameters train"
        if changed := self._values.change():
            return changed
        for name, value in self._read.items():
            now = attributes[name]
            if now is not value:
                if now != value:
                    path = (("attribute", name), *difference(value, now))
                    return f"the attribute '{readable(path)}' of the Learner, read at {self._readers[name]},"
                self._read[name] = now  # comparing is slow: next time it is the same object
        return None

    def _note_values(self) -> Links:
        """Where the flags and the options are: values that compare equal later may be other objects."""
        noted = Links()
        for module, flags in self._flags:
            noted.add_count(vars(module))  # one more may take the place of its class's
            for name in flags:
                noted.add(next(where for where in _places(module) if name in where), name)
        for slot in self._slots:
            groups = noted.add(vars(slot.optimizer), "param_groups")
            for index in range(len(groups)):
                noted.add_all(noted.add(groups, index), but=_FOLLOWED)
            for group in slot.groups:
                noted.add(vars(group), "is_uniform")
        for setting in self._settings:
            group = noted.add(noted.add(vars(setting.slot.optimizer), "param_groups"), setting.group)
            noted.add_count(group)
            if setting.name in group:
                noted.add(group, setting.name)
        return noted

    def _is_to_guard(self, setting: Setting) -> bool:
        """Whether it is none of the options, which are compared anyway, nor the parameters."""
        return setting.name != "params" and (setting.name in _FOLLOWED or setting.slot not in self._slots)

    def _current_options(self) -> list[tuple[dict[str, Any], bool]]:
        return [
            ({n: frozen(value) for n, value in group.options.items() if n not in _FOLLOWED}, group.is_uniform)
            for slot in self._slots
            for group in slot.groups
        ]


def _places(module: Any) -> list[Mapping[str, Any]]:
    """Where a module's attributes are looked for: in itself, then in the classes that users or we wrote."""
    kinds = [vars(kind) for kind in type(module).__mro__ if kind.__module__.partition(".")[0] not in _WITHOUT_FLAGS]
    return [vars(module), *kinds]


def _flags(module: Any) -> dict[str, Any]:
    """The plain values among a module's attributes."""
    found: dict[str, Any] = {}
    for where in reversed(_places(module)):
        found |= {name: value for name, value in where.items() if isinstance(value, _SCALARS) and name[:2] != "__"}
    return found


def _note_parts(within: Sequence[dict[str, Any]]) -> Links:
    """What modules consist of; who a buffer is may change, for `Bindings` follows it."""
    noted = Links()
    for attributes in within:
        noted.add_count(attributes["_buffers"])
        for name in _PARTS:
            noted.add_all(noted.add(attributes, name))
    return noted


def is_scratch(learner: "TorchLearner", storage: Tensor) -> bool:
    """Whether a storage is a buffer of gradients, which nobody reads after a step."""
    pointer = storage.data_ptr()
    return any(
        group.gradients.data_ptr() == pointer and group.gradients.numel() == storage.numel()
        for slot in learner.optimizers.slots.values()
        for group in slot.groups
    )
