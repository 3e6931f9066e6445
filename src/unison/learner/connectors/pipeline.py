"""The way from episodes to the columns of each module."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unison.data.rollout import Rollout, chunks_by_module, make_rollout
from unison.data.tensors import TensorColumns
from unison.errors import BatchError
from unison.learner.connectors.connector import LearnerConnector
from unison.learner.update import choose_trained
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


def episodes_to_columns(learner: "TorchLearner", episodes: Sequence[Any]) -> tuple[dict[ModuleID, TensorColumns], int]:
    """Run the learner connectors over the episodes of every module that trains.

    Returns:
        The columns of each module, and the environment steps of the episodes.

    Raises:
        BatchError: no episode has a step, or one belongs to an unknown module.
    """
    chunks, env_steps = chunks_by_module(episodes)
    if unknown := chunks.keys() - learner.module.keys():
        raise BatchError(
            f"Episodes belong to module '{min(unknown)}', which is unknown. Known modules: "
            f"{sorted(learner.module.keys())}. Add it with add_module(), or correct the policy_mapping_fn."
        )
    columns: dict[ModuleID, TensorColumns] = {}
    for module_id, parts in choose_trained(learner, chunks, episodes).items():
        module = learner.module[module_id]
        rollout = make_rollout(parts, learner.device)
        given: Sequence[LearnerConnector] = learner.config.learner_connectors or ()
        for connector in (*given, *learner.connectors):
            made: Any = connector(rollout, learner=learner, module_id=module_id)
            if not isinstance(made, Rollout):
                name = getattr(connector, "__name__", type(connector).__name__)
                raise BatchError(
                    f"Module '{module_id}': the connector {name} returned {type(made).__name__}; return the rollout."
                )
            rollout = made
        max_seq_len = module.model_config.max_seq_len if module.is_stateful() else None
        columns[module_id] = rollout.to_batch(max_seq_len=max_seq_len)
    return columns, env_steps
