"""What a step has to know besides its minibatch."""

from dataclasses import dataclass

from unison.types import ModuleID

LOSS_SHARE = "loss_share"
"""The column that tells which share of its optimizer step's rows a minibatch holds (0-d).

It is absent where a minibatch is the whole step. Losses weigh by it, so that gradients summed over minibatches and
ranks are those of the mean over all rows.
"""


@dataclass(frozen=True)
class StepContext:
    """Fixed before the step runs, alike on every rank.

    Args:
        modules: those with rows in this optimizer step, on any rank; their optimizers step.
        closes_step: whether the optimizers step after this minibatch, or gradients are only added up.
        is_logged: whether metrics are kept (those of the last pass are); what serves only them may be left out.
    """

    modules: tuple[ModuleID, ...] = ()
    closes_step: bool = True
    is_logged: bool = True
