"""What a Learner does with its state: gives it, takes it over, saves and loads it."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from unison.modules import RLModule
from unison.types import ModuleID

SettingsSource = Literal["checkpoint", "config"]
ModuleChoice = Collection[ModuleID] | Mapping[ModuleID, ModuleID] | None
"""Some modules: their ids, or for each the id that it goes by where it is taken to; None: all."""


class LearnerState(ABC):
    """The part of a Learner that deals with its state; not for use alone."""

    @abstractmethod
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        module_ids: Collection[ModuleID] | None = None,
        inference_only: bool = False,
    ) -> dict[str, Any]:
        """All or parts of the state: "rl_module", "optimizer" and "learner" (the rest); numpy at the leaves."""

    @abstractmethod
    def check_state(
        self, state: Mapping[str, Any], *, shared: Mapping[ModuleID, Mapping[str, Any]] | None = None
    ) -> None:
        """Raise what `set_state` would, and change nothing.

        Args:
            state: what `get_state` returned.
            shared: for a state that is to be all there is of its modules: which parameters they shared where it was
                got. They must share the same here, no optimizer may be without a state, and modules that the state
                lacks must be such as can be removed.
        """

    @abstractmethod
    def set_state(self, state: Mapping[str, Any], *, module_ids: ModuleChoice = None) -> None:
        """Take over the parts that `state` has; a misfit raises `StateError` and changes nothing.

        Args:
            state: what `get_state` returned, of this Learner or another.
            module_ids: the modules to take from it, weights, optimizers and coefficients; or for each of them the id
                that it goes by here. None: all.
        """

    @abstractmethod
    def save_state(self, path: str | Path) -> None:
        """Write everything to a checkpoint directory."""

    @abstractmethod
    def load_state(
        self,
        path: str | Path,
        *,
        settings: SettingsSource = "checkpoint",
        module_ids: ModuleChoice = None,
        components: Collection[str] | None = None,
        module_classes: Mapping[ModuleID, type[RLModule]] | None = None,
    ) -> dict[str, tuple[Any, Any]]:
        """Take over a checkpoint written by `save_state`, wholly or (on an error) not at all.

        The checkpoint knows its modules: those that are missing here are added, with the settings in which they
        differed, and those that it lacks are removed.

        Args:
            path: the checkpoint directory.
            settings: whose learning rates, optimizer settings and coefficients count from now on, where the
                checkpoint's config differs from this Learner's: those of the "checkpoint", or of the "config". What has
                a schedule in this Learner's config follows it from the next update on, either way.
            module_ids: only these modules, with their optimizers and coefficients; or for each of them the id that it
                is to go by here. One that is missing here is added; everything else stays as it is.
            components: only these of "rl_module", "optimizer" and "learner".
            module_classes: the classes of modules that are missing here and whose class is not registered.

        Returns:
            What differs: `{"training.lr": (own value, checkpoint's value), ...}`; it is logged as well.

        Raises:
            CheckpointError: the checkpoint is damaged, or the class of a module is unknown here.
            ModuleError: a module is neither here nor in the checkpoint.
            StateError: something does not fit; names module, parameter and both shapes.
        """
