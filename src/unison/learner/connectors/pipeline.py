"""The way from episodes to the columns of each module."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from unison.data import Columns
from unison.data.rollout import Rollout, chunks_by_module, make_rollout
from unison.data.tensors import TensorColumns
from unison.errors import BatchError, ConfigError
from unison.learner.connectors.connector import LearnerConnector
from unison.learner.update import choose_trained
from unison.types import ModuleID, tree_items

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

_ALWAYS_THERE: Final = (Columns.ACTIONS, Columns.REWARDS, Columns.TERMINATEDS, Columns.TRUNCATEDS)
"""The columns that connectors may change, but not take away."""


def episodes_to_columns(learner: "TorchLearner", episodes: Sequence[Any]) -> tuple[dict[ModuleID, TensorColumns], int]:
    """Run the learner connectors over the episodes of every module that trains.

    Returns:
        The columns of each module, and the environment steps of the episodes.

    Raises:
        BatchError: no episode has a step, one belongs to an unknown module or was sampled without the state that its
            module has, or a connector returned no sound rollout.
        ConfigError: a connector can't be called as one.
    """
    chunks, env_steps = chunks_by_module(episodes)
    if unknown := chunks.keys() - learner.module.keys():
        raise BatchError(
            f"Episodes belong to module '{min(unknown)}', which is unknown. Known modules: "
            f"{sorted(learner.module.keys())}. Add it with add_module(), or correct the policy_mapping_fn."
        )
    columns: dict[ModuleID, TensorColumns] = {}
    given: Sequence[LearnerConnector] = learner.config.learner_connectors or ()
    for module_id, parts in choose_trained(learner, chunks, episodes).items():
        module = learner.module[module_id]
        rollout = make_rollout(parts, learner.device)
        for connector in given:
            rollout = _changed(rollout, connector, learner, module_id)
        if module.is_stateful() and Columns.STATE_IN not in rollout.columns:
            raise BatchError(
                f"Module '{module_id}' is stateful, but its episodes hold no '{Columns.STATE_IN}': a module without "
                "state sampled them. Sample with this module, or add the column by a connector."
            )
        for connector in learner.connectors:
            rollout = _changed(rollout, connector, learner, module_id)
        max_seq_len = module.model_config.max_seq_len if module.is_stateful() else None
        columns[module_id] = rollout.to_batch(max_seq_len=max_seq_len)
    return columns, env_steps


def _changed(rollout: Rollout, connector: LearnerConnector, learner: "TorchLearner", module_id: ModuleID) -> Rollout:
    """What a connector makes of a rollout, checked."""
    name = getattr(connector, "__name__", type(connector).__name__)
    which = f"Module '{module_id}': the connector {name}"
    if isinstance(connector, type):
        raise ConfigError(f"{which} is a class; give an object of it: {name}().")
    try:
        made: Any = connector(rollout, learner=learner, module_id=module_id)
    except TypeError as error:
        if _can_be_called(connector):
            raise
        raise ConfigError(
            f"{which} takes {inspect.signature(connector)}; a connector takes (rollout, *, learner, module_id) and "
            "returns the rollout."
        ) from error
    if not isinstance(made, Rollout):
        raise BatchError(f"{which} returned {type(made).__name__}; return the rollout.")
    if missing := [column for column in _ALWAYS_THERE if column not in made.columns]:
        raise BatchError(f"{which} took away the columns {missing}; it may change them, but others need them.")
    for path, leaf in tree_items(made.columns):
        if not isinstance(leaf, Tensor):
            raise BatchError(
                f"{which} made column '{path}' a {type(leaf).__name__}; make it a tensor: "
                f"torch.as_tensor(..., device=learner.device)."
            )
        if leaf.shape[:1] != (made.num_steps,):
            raise BatchError(
                f"{which} made column '{path}' {list(leaf.shape)}; give it {made.num_steps} rows, one for each step."
            )
    return made


def _can_be_called(connector: LearnerConnector) -> bool:
    """Whether its signature is that of a connector; then an error comes from within."""
    try:
        inspect.signature(connector).bind(None, learner=None, module_id=None)
    except TypeError:
        return False
    except ValueError:  # It has none that can be seen.
        pass
    return True
