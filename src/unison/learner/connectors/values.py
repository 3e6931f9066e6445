"""The values of all observations of a rollout, in bounded memory, shared among the ranks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unison.data import Columns
from unison.data.rollout import Rollout
from unison.data.sequences import lay_out, lead_of
from unison.data.trees import slice_rows, take_rows
from unison.errors import ModuleError
from unison.learner.loss_check import checked_values
from unison.types import ModuleID, Tree

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

_MINIBATCHES_AT_ONCE = 4
"""A forward pass without gradients keeps one layer at a time: several minibatches fit where one trains."""


def compute_values(learner: "TorchLearner", module_id: ModuleID, rollout: Rollout) -> Tensor:
    """The value of each observation of a rollout, final ones included.

    Rows are passed in pieces of a few minibatches; each rank computes its share of the pieces.

    Returns:
        [N + E], in the order of `rollout.observations`.
    """
    module = learner.module[module_id]
    total = rollout.num_steps + len(rollout.lengths)
    rows_at_once = _MINIBATCHES_AT_ONCE * (learner.config.minibatch_size or total)
    if not module.is_stateful():
        batch: Mapping[str, Tree] = {Columns.OBS: rollout.observations}
        return _in_pieces(learner, module_id, batch, rows_at_once)
    max_seq_len = module.model_config.max_seq_len
    layout = lay_out([n + 1 for n in rollout.lengths], max_seq_len, spare=1)
    # Row r of chunk e stands at r + e among the observations; each sequence begins at a step, never at a final one.
    chunk_of = torch.repeat_interleave(torch.arange(len(rollout.lengths)), torch.tensor(rollout.lengths) + 1)
    steps = layout.starts - chunk_of[layout.starts]
    batch = {
        Columns.OBS: layout.pad(rollout.observations),
        Columns.STATE_IN: take_rows(rollout.columns[Columns.STATE_IN], steps),
        Columns.LOSS_MASK: layout.mask.to(learner.device),
    }
    values = _in_pieces(learner, module_id, batch, max(1, rows_at_once // max_seq_len))
    return layout.flatten(values, total)


def _in_pieces(learner: "TorchLearner", module_id: ModuleID, batch: Mapping[str, Tree], rows_at_once: int) -> Tensor:
    module = learner.module[module_id]
    rows, *steps = lead_of(batch, is_stateful=module.is_stateful())
    rank, world_size = learner.collective.rank, learner.collective.world_size
    values: Tensor | None = None
    with torch.no_grad():
        for number, start in enumerate(range(0, rows, rows_at_once)):
            if number % world_size != rank:
                continue
            piece = slice_rows(dict(batch), start, start + rows_at_once)
            try:
                found = learner.module.compute_values({module_id: piece})[module_id]
            except ModuleError as error:  # A module knows its class, not its id.
                error.args = (f"Module '{module_id}': {error}",)
                raise
            checked_values(module_id, found, lead_of(piece, is_stateful=module.is_stateful()))
            if values is None:
                values = found.new_zeros((rows, *found.shape[1:]), dtype=torch.float32)
            values[start : start + rows_at_once] = found
    if values is None:  # More ranks than pieces: this one had none.
        values = torch.zeros((rows, *steps), device=learner.device)
    if world_size > 1:
        learner.collective.all_reduce_(values.view(-1))
    return values
