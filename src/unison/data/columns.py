"""The names of the columns that batches and episodes hold."""

from typing import Final


class Columns:
    """String constants for the columns; a batch may hold others beside them."""

    OBS: Final = "obs"
    NEXT_OBS: Final = "new_obs"
    ACTIONS: Final = "actions"
    REWARDS: Final = "rewards"
    TERMINATEDS: Final = "terminateds"
    TRUNCATEDS: Final = "truncateds"
    EPS_ID: Final = "eps_id"
    T: Final = "t"
    AGENT_ID: Final = "agent_id"
    MODULE_ID: Final = "module_id"
    ACTION_DIST_INPUTS: Final = "action_dist_inputs"
    ACTION_LOGP: Final = "action_logp"
    VF_PREDS: Final = "vf_preds"
    ADVANTAGES: Final = "advantages"
    VALUE_TARGETS: Final = "value_targets"
    STATE_IN: Final = "state_in"
    STATE_OUT: Final = "state_out"
    LOSS_MASK: Final = "loss_mask"
    SEQ_LENS: Final = "seq_lens"
    ACTION_MASK: Final = "action_mask"
    WEIGHTS: Final = "weights"
