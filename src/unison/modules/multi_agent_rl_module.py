"""Several modules as one: a mapping of module ids to modules."""

import os
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self, TypeVar, overload
from urllib.parse import quote

from torch import Tensor, nn

from unison.errors import ModuleError
from unison.modules import module_checkpoint, module_state, multi_agent_state
from unison.modules.module_state import ModuleState
from unison.modules.multi_agent_state import SharedNames
from unison.modules.rl_module import RLModule
from unison.types import ALL_MODULES, ModuleID, Tree, check_several_ids

_Default = TypeVar("_Default")
NestedBatch = Mapping[ModuleID, Mapping[str, Tree]]


class MultiAgentRLModule(nn.Module):
    """A mapping of module ids to `RLModule`s, that runs a nested batch through them.

    Subclass it where modules depend on each other: share a submodule by assigning it in `setup`
    (`self["b"].encoder = self["a"].encoder`), or hold further layers as attributes (a centralized critic) and override
    `forward_train` and `compute_values`. Layers that no module contains go by the id ALL_MODULES in states and in
    `parameters_by_module`.

    Args:
        modules: modules by id, in the order in which they shall run; ids may hold any characters.
    """

    def __init__(self, modules: Mapping[ModuleID, RLModule] | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleDict()
        # Beside the members that torch knows, because a lookup there takes microseconds.
        self._by_id: dict[ModuleID, RLModule] = {}
        for module_id, module in (modules or {}).items():
            self.add_module(module_id, module)
        self.setup()

    def setup(self) -> None:
        """Hook: tie modules together, or make layers of one's own. The modules are there. Default: nothing."""

    def forward_inference(self, batch: NestedBatch) -> dict[ModuleID, dict[str, Tree]]:
        """Run `forward_inference` of every module that the batch has columns for."""
        return {module_id: self[module_id].forward_inference(columns) for module_id, columns in batch.items()}

    def forward_exploration(self, batch: NestedBatch) -> dict[ModuleID, dict[str, Tree]]:
        """Run `forward_exploration` of every module that the batch has columns for."""
        return {module_id: self[module_id].forward_exploration(columns) for module_id, columns in batch.items()}

    def forward_train(self, batch: NestedBatch) -> dict[ModuleID, dict[str, Tree]]:
        """Run `forward_train` of every module that the batch has columns for."""
        return {module_id: self[module_id].forward_train(columns) for module_id, columns in batch.items()}

    def forward(self, batch: NestedBatch) -> dict[ModuleID, dict[str, Tree]]:
        """As `forward_train`, so that `torch.func.functional_call` and compilers see the training step."""
        return self.forward_train(batch)

    def compute_values(self, batch: NestedBatch) -> dict[ModuleID, Tensor]:
        """The values `[B]` or `[B, T]` of every module that the batch has columns for."""
        return {module_id: self[module_id].compute_values(columns) for module_id, columns in batch.items()}

    def add_module(  # pyright: ignore[reportIncompatibleMethodOverride]  (torch calls the first argument `name`)
        self, module_id: ModuleID, module: nn.Module | None, override: bool = False
    ) -> None:
        """Add a module; an id that exists already raises ModuleError unless `override`."""
        if not isinstance(module, RLModule):
            raise ModuleError(
                f"Module '{module_id}' must be an RLModule, not {type(module).__name__}. "
                f"Other layers are added by assigning them as attributes."
            )
        if module_id == ALL_MODULES:
            raise ModuleError(f"'{ALL_MODULES}' stands for all modules; give this module another id.")
        if module_id in self and not override:
            raise ModuleError(f"There is a module '{module_id}' already. Remove it first, or pass override=True.")
        self.members[_attribute(module_id)] = module
        self._by_id[module_id] = module

    def remove_module(self, module_id: ModuleID) -> RLModule:
        """Remove a module and return it; an unknown id raises ModuleError."""
        module = self[module_id]
        del self.members[_attribute(module_id)]
        del self._by_id[module_id]
        return module

    def __getitem__(self, module_id: ModuleID) -> RLModule:
        """The module of this id; an unknown one raises ModuleError."""
        try:
            return self._by_id[module_id]
        except KeyError:
            raise ModuleError(f"There is no module '{module_id}'. Known: {list(self.keys())}.") from None

    def __contains__(self, module_id: object) -> bool:
        """Whether there is a module of this id."""
        return module_id in self._by_id

    def __iter__(self) -> Iterator[ModuleID]:
        """The module ids."""
        return iter(self._by_id)

    def __len__(self) -> int:
        """The number of modules."""
        return len(self._by_id)

    @overload
    def get(self, module_id: ModuleID, default: None = None) -> RLModule | None: ...

    @overload
    def get(self, module_id: ModuleID, default: _Default) -> RLModule | _Default: ...

    def get(self, module_id: ModuleID, default: Any = None) -> Any:
        """The module of this id, or `default`."""
        return self._by_id.get(module_id, default)

    def keys(self) -> KeysView[ModuleID]:
        """The module ids."""
        return self._by_id.keys()

    def values(self) -> ValuesView[RLModule]:
        """The modules."""
        return self._by_id.values()

    def items(self) -> ItemsView[ModuleID, RLModule]:
        """Pairs of id and module."""
        return self._by_id.items()

    def parameters_by_module(self) -> dict[ModuleID, dict[str, nn.Parameter]]:
        """Every parameter once, by the module that it belongs to and its name there.

        A parameter that several modules share belongs to the first of them. Those of layers that no module contains are
        under ALL_MODULES.
        """
        owned = multi_agent_state.owned_tensors(multi_agent_state.tensors_by_module(self, self._by_id))
        return {
            module_id: {name: t for name, t in tensors.items() if isinstance(t, nn.Parameter)}
            for module_id, tensors in owned.items()
        }

    def shared_parameters(self) -> SharedNames:
        """For each module the names of what belongs to an earlier one: to which, and its name there."""
        return multi_agent_state.shared_names(multi_agent_state.tensors_by_module(self, self._by_id))

    def get_state(
        self, module_ids: Iterable[ModuleID] | None = None, inference_only: bool = False
    ) -> dict[ModuleID, ModuleState]:
        """Copies of the parameters and buffers of all modules, or of some, as `{module_id: {name: array}}`.

        What modules share is listed once, under the first of those asked for. Layers that no module contains are under
        ALL_MODULES, unless `inference_only`, or `module_ids` leaves it out.

        Raises:
            ModuleError: there is no such module, or `module_ids` is one string.
        """
        check_several_ids(module_ids)
        wanted = None if module_ids is None else list(module_ids)
        _check_known(self, wanted or ())
        return multi_agent_state.get_states(self, self._by_id, wanted, inference_only)

    def set_state(self, state: Mapping[ModuleID, Mapping[str, Any]], inference_only: bool = False) -> None:
        """Take over the states of all modules, or of some, wholly or (on an error) not at all.

        What modules share may be listed under any of them; under several, with equal values. With `inference_only`, or
        a state that was got with it, what acting does not need stays as it is.

        Raises:
            ModuleError: the state is for a module that does not exist.
            StateError: a state does not fit its module; names the module, the parameter and both shapes.
        """
        _check_known(self, state)
        if inference_only:
            state = {m: module_state.acting_part(self[m], part) for m, part in state.items() if m != ALL_MODULES}
        multi_agent_state.set_states(self, self._by_id, state)

    def check_state(self, state: Mapping[ModuleID, Mapping[str, Any]]) -> None:
        """Raise what `set_state` would, and change nothing."""
        _check_known(self, state)
        multi_agent_state.check_states(self, self._by_id, state)

    def describe(self) -> dict[str, Any]:
        """The module list of a checkpoint: class, spaces and settings of each module, and what they share."""
        return module_checkpoint.module_list(self._by_id, self.shared_parameters())

    def save_to_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write all modules to a checkpoint directory: weights, class names, spaces and settings."""
        module_checkpoint.save_modules(path, self._by_id, self.get_state(), self.shared_parameters())

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        module_ids: Iterable[ModuleID] | None = None,
        module_classes: Mapping[ModuleID, type[RLModule]] | None = None,
    ) -> Self:
        """Build the modules that a checkpoint directory holds, or some of them, as an instance of this class.

        Args:
            path: a directory that `save_to_checkpoint` wrote.
            module_ids: which modules; default all.
            module_classes: the classes of those modules whose class is not registered.

        Raises:
            CheckpointError: the checkpoint is damaged or holds no such modules, or a class is unknown here.
        """
        modules, states = module_checkpoint.load_modules(path, module_ids, module_classes or {})
        made = cls(modules)
        made.set_state(states)
        return made


def _attribute(module_id: ModuleID) -> str:
    """A name that torch accepts for a module of any id: no dots, never empty, unlike any method of a ModuleDict."""
    return "id:" + quote(module_id, safe="").replace(".", "%2E")


def _check_known(modules: MultiAgentRLModule, module_ids: Iterable[ModuleID]) -> None:
    for module_id in module_ids:
        if module_id != ALL_MODULES:
            modules[module_id]
