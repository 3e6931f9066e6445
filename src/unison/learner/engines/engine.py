"""The seam between a Learner's step and what runs it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from torch import Tensor

from unison.data.plan import MinibatchPlan
from unison.data.tensors import TensorColumns
from unison.learner.metrics import StepMetrics
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


BeforeChange: TypeAlias = Callable[[Mapping[int, Tensor]], None]
"""To be called before any state changes, with the copies of it that exist already, by the address of the original."""


def no_copies(known: Mapping[int, Tensor]) -> None:
    """For state that nobody will want back: a BeforeChange that does nothing."""


class Engine(ABC):
    """Runs all steps of an update. Every engine leaves the same numbers as the eager one."""

    name: ClassVar[str]
    fused: bool = False
    """Whether optimizers may use fused kernels that only run eagerly."""
    runs: int = 0
    """The updates that it has begun, and the programs that its ranks have agreed on."""

    @abstractmethod
    def run(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        before_change: BeforeChange,
    ) -> list[StepMetrics]:
        """Take every step of `plan`.

        Args:
            learner: its modules, optimizers and coefficients are changed in place.
            plan: which rows form which minibatch.
            columns: the whole batch on the Learner's device.
            before_change: called at least once, for the first time while the Learner still is as it was.

        Returns:
            What each minibatch of the last pass logged.
        """

    def report(self) -> dict[str, str | float]:
        """What the results say of this engine: its name, and why it runs."""
        return {"engine": self.name}

    def forget_module(self, module_id: ModuleID) -> None:  # noqa: B027  # most engines keep nothing by module
        """A module is gone from the Learner: let go of what was made for it."""
