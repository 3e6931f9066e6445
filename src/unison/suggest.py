"""The nearest valid name to a misspelt one."""

from collections.abc import Iterable
from difflib import get_close_matches

_FORMER_NAMES = {
    "learning_rate": "lr",
    "discount": "gamma",
    "discount_factor": "gamma",
    "lambda": "lambda_",
    "gae_lambda": "lambda_",
    "batch_size": "train_batch_size",
    "train_batch_size_per_learner": "train_batch_size",
    "n_steps": "rollout_fragment_length",
    "sgd_minibatch_size": "minibatch_size",
    "num_sgd_iter": "num_epochs",
    "n_epochs": "num_epochs",
    "clip_range": "clip_param",
    "ent_coef": "entropy_coeff",
    "vf_coef": "vf_loss_coeff",
    "max_grad_norm": "grad_clip",
    "num_workers": "num_env_runners",
    "num_rollout_workers": "num_env_runners",
    "n_envs": "num_envs_per_env_runner",
    "num_envs": "num_envs_per_env_runner",
    "framework_str": "framework",
    "fcnet_hiddens": "hidden_sizes",
    "fcnet_activation": "activation",
    "vf_share_layers": "share_value_layers",
    "use_lstm": "lstm_size",
    "lstm_cell_size": "lstm_size",
    "observation": "obs",
    "observations": "obs",
    "next_obs": "new_obs",
    "next_observations": "new_obs",
    "done": "terminateds",
    "dones": "terminateds",
    "logp": "action_logp",
    "log_probs": "action_logp",
    "values": "vf_preds",
    "returns": "value_targets",
}
"""What other libraries call our settings and columns."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name that `name` most likely means: a known synonym, a near spelling, or a name that contains it."""
    names = sorted(known)
    synonym = _FORMER_NAMES.get(name.lower())
    if synonym in names:
        return synonym
    by_lower = {each.lower(): each for each in names}
    close = get_close_matches(name.lower(), by_lower, n=1)
    if close:
        return by_lower[close[0]]
    return next((each for each in names if len(name) > 2 and name.lower() in each), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest of the known names, or lists them all where none is near."""
    names = sorted(known)
    close = nearest(name, names)
    return f"Did you mean '{close}'?" if close else f"Known are: {', '.join(names)}."
