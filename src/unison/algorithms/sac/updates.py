"""Updates on what is drawn from a replay, and the priorities that come back from them."""

from collections import deque
from collections.abc import Mapping
from typing import Any, final

from torch import Tensor

from unison.algorithms.sac.learner import TD_ERRORS
from unison.config import AlgorithmConfig
from unison.data import MultiAgentBatch
from unison.data.replay import ReplayBuffer
from unison.learner_group import LearnerGroup
from unison.types import ModuleID

Results = dict[ModuleID, dict[str, Any]]


@final
class ReplayUpdates:
    """Draws batches, hands them to the Learners, and tells the replay what they found.

    Args:
        learner_group: who updates.
        replay: where the rows come from.
        config: batch size, n-step, discount.
    """

    def __init__(self, learner_group: LearnerGroup, replay: ReplayBuffer, config: AlgorithmConfig) -> None:
        self._group = learner_group
        self._replay = replay
        self._config = config
        self._in_flight: deque[dict[ModuleID, Tensor]] = deque()
        """The numbers of the rows of each update that is not done, oldest first."""

    def run(self, steps: int, timesteps: Mapping[str, int]) -> Results:
        """Take `steps` gradient steps in one call; returns the results, or those of an earlier call that were ready."""
        config, modules = self._config, self._replay.modules
        configs = {module_id: config.get_config_for_module(module_id) for module_id in modules}
        draws = self._replay.sample(
            steps * config.train_batch_size,
            n_step={m: c.n_step for m, c in configs.items()},
            gamma={m: c.gamma for m, c in configs.items()},
        )
        batch = MultiAgentBatch(draws.columns, env_steps=steps * config.train_batch_size)
        arguments: dict[str, Any] = {"timesteps": timesteps, "minibatch_size": config.train_batch_size}
        self._in_flight.append(draws.numbers)
        if not config.updates_while_sampling:
            return self._done(self._group.update_from_batch(batch, **arguments))
        results: Results = {}
        for results in self._group.update_from_batch(batch, async_update=True, **arguments):
            self._done(results)
        return results

    def drain(self) -> list[Results]:
        """Wait for all updates."""
        return [self._done(results) for results in self._group.drain()] if self._in_flight else []

    def _done(self, results: Results) -> Results:
        numbers = self._in_flight.popleft()
        errors = {m: found.pop(TD_ERRORS) for m, found in results.items() if TD_ERRORS in found}
        self._replay.update_priorities(numbers, errors)
        return results
