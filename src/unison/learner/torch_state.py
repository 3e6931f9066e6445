"""How a PyTorch Learner gives and takes its state."""

from abc import ABC
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from unison.checkpoint import read_checkpoint, read_manifest, write_checkpoint
from unison.errors import StateError, UnisonError
from unison.learner import saving
from unison.learner import state as learner_state
from unison.learner.learner import Learner
from unison.learner.learner_state import ModuleChoice, SettingsSource
from unison.learner.loading import LoadOptions, load
from unison.learner.memento import wholly_or_not
from unison.modules import RLModule
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


class TorchState(Learner, ABC):
    """The part of a TorchLearner that deals with state; not for use alone."""

    components: ClassVar[tuple[str, ...]] = learner_state.COMPONENTS

    @property
    def _whole(self) -> "TorchLearner":
        return cast("TorchLearner", self)

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        module_ids: Collection[ModuleID] | None = None,
        inference_only: bool = False,
    ) -> dict[str, Any]:
        """See Learner.get_state."""
        return learner_state.get_state(self._whole, components, module_ids, inference_only)

    def check_state(self, state: Mapping[str, Any], *, shared: Mapping[ModuleID, Any] | None = None) -> None:
        """See Learner.check_state."""
        learner_state.check_state(self._whole, state, shared=shared)

    def set_state(self, state: Mapping[str, Any], *, module_ids: ModuleChoice = None) -> None:
        """See Learner.set_state."""
        chosen = learner_state.chosen_part(state, module_ids)
        self._whole.optimizers.check()
        with wholly_or_not(self._whole):
            try:
                learner_state.set_state(self._whole, chosen)
            except UnisonError:
                raise
            except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
                raise StateError(
                    f"This is no state of this Learner ({type(error).__name__}: {error}). Nothing was changed."
                ) from error

    def get_module_state(
        self, module_ids: Collection[ModuleID] | None = None, inference_only: bool = False
    ) -> dict[ModuleID, Any]:
        """The weights and buffers of modules, numpy at the leaves."""
        return learner_state.get_module_state(self._whole, module_ids, inference_only)

    def set_module_state(self, state: Mapping[ModuleID, Any]) -> None:
        """Take over the weights and buffers of the modules in `state`."""
        self.set_state({"rl_module": state})

    def get_optimizer_state(self) -> dict[ModuleID, dict[str, Any]]:
        """`{module_id: {optimizer_name: settings and moments}}`, numpy at the leaves."""
        return learner_state.get_optimizer_state(self._whole)

    def set_optimizer_state(self, state: Mapping[ModuleID, Mapping[str, Any]]) -> None:
        """Take over the optimizers in `state`."""
        self.set_state({"optimizer": state})

    def save_state(self, path: str | Path) -> None:
        """See Learner.save_state."""
        saving.save(self._whole, path)

    def load_state(
        self,
        path: str | Path,
        *,
        settings: SettingsSource = "checkpoint",
        module_ids: ModuleChoice = None,
        components: Collection[str] | None = None,
        module_classes: Mapping[ModuleID, type[RLModule]] | None = None,
    ) -> dict[str, tuple[Any, Any]]:
        """See Learner.load_state."""
        self._check_is_built()
        return load(self._whole, path, LoadOptions(settings, module_ids, components, module_classes))

    def get_module_ids(self) -> list[ModuleID]:
        """The ids of its modules."""
        return list(self.module)

    def _get_metadata(self) -> dict[str, Any]:
        """What the manifest of a checkpoint says: classes, config, counters, modules."""
        return saving.metadata(self._whole)

    def _save_optimizers(self, path: str | Path) -> None:
        """Write the optimizers alone to a checkpoint directory."""
        parts = saving.to_parts({"optimizer": self.get_optimizer_state()})
        write_checkpoint(path, parts, self._get_metadata())

    def _load_optimizers(self, path: str | Path) -> None:
        """Take over the optimizers of a checkpoint directory, whatever else it holds."""
        names = [name for name in read_manifest(path).parts if name.startswith("optimizers/")]
        self.set_optimizer_state(saving.from_parts(read_checkpoint(path, names).parts)["optimizer"])
