"""May each module's steps run by themselves, one module after another?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unison.learner.engines.traced import TracedStep
from unison.modules import MultiAgentRLModule
from unison.types import ALL_MODULES, ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

_WHOLE = ("_update", "compute_loss", "compute_gradients", "postprocess_gradients", "apply_gradients")


def is_separable(learner: "TorchLearner", module_ids: Sequence[ModuleID]) -> bool:
    """Whether the hooks treat each module alone, so that the order of modules can't matter.

    Hooks that see all modules at once may mix them; so may shared parameters, an optimizer of all
    modules, or sums over the ranks.
    """
    from unison.learner.torch_learner import TorchLearner

    if learner.collective.world_size > 1 or learner.precision.scaled:
        return False
    if any(getattr(type(learner), name) is not getattr(TorchLearner, name) for name in _WHOLE):
        return False
    if type(learner.module).forward_train is not MultiAgentRLModule.forward_train:
        return False
    if any(slot.module_id == ALL_MODULES for slot in learner.optimizers.active(module_ids)):
        return False
    seen: set[int] = set()
    for module_id in module_ids:
        own = {id(p) for p in learner.module[module_id].parameters()}
        if own & seen:
            return False
        seen |= own
    return True


def couplings(traced: Sequence[TracedStep]) -> bool:
    """Whether steps traced for single modules depend on each other after all.

    They do if one reads what another changes, or if they draw random numbers, whose order counts.
    """
    written: dict[int, ModuleID] = {}
    for step in traced:
        if step.graph.draws:
            return True
        for tensor in step.state():
            owner = written.setdefault(tensor.data_ptr(), step.leaves[0].module_id)
            if owner != step.leaves[0].module_id:
                return True
    return any(
        written.get(tensor.data_ptr(), step.leaves[0].module_id) != step.leaves[0].module_id
        for step in traced
        for tensor in step.captured()
    )
