"""Random episodes that the tests share."""

from typing import Any

import numpy as np
import torch

from unison import SingleAgentEpisode
from unison.types import tree_map


def make_episode(
    steps: int, seed: int, *, end: str = "cut", initial_state: Any = None, **names: Any
) -> SingleAgentEpisode:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(steps, 3)).astype(np.float32) * 0.1
    actions = rng.integers(0, 3, steps)
    logp = torch.from_numpy(inputs).log_softmax(-1).numpy()[np.arange(steps), actions]
    extra: dict[str, Any] = {"action_dist_inputs": inputs, "action_logp": logp}
    if initial_state is not None:
        extra["state_in"] = tree_map(lambda t: rng.normal(size=(steps, *t.shape)).astype(np.float32), initial_state)
    return SingleAgentEpisode(
        observations=rng.normal(size=(steps + 1, 4)).astype(np.float32),
        actions=actions,
        rewards=rng.normal(size=steps).astype(np.float32),
        terminated=end == "terminated",
        truncated=end == "truncated",
        extra_model_outputs=extra,
        **names,
    )
