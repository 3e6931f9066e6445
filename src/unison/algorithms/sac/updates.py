"""Updates on what is drawn from a replay, and the priorities that come back from them."""

from collections.abc import Mapping
from typing import Any, final

from torch import Tensor

from unison.algorithms.sac.learner import TD_ERRORS
from unison.config import AlgorithmConfig
from unison.data import MultiAgentBatch
from unison.data.replay import ReplayBuffer
from unison.learner import TorchLearner
from unison.learner_group import LearnerGroup
from unison.types import ALL_MODULES, ModuleID

Results = dict[ModuleID, dict[str, Any]]
STATE_AFTER_UPDATE = "_rl_module_state_after_update"


@final
class ReplayUpdates:
    """Draws batches, hands them to the Learners, and tells the replay what they found.

    Args:
        learner_group: who updates.
        replay: where the rows come from.
        config: batch size, and whether sampling goes on meanwhile.
    """

    def __init__(self, learner_group: LearnerGroup, replay: ReplayBuffer, config: AlgorithmConfig) -> None:
        self._group = learner_group
        self._replay = replay
        self._config = config
        self.weights: dict[ModuleID, Any] | None = None
        """The weights after the last update that is done, where it ran while sampling went on."""
        self._numbers: dict[float, dict[ModuleID, Tensor]] = {}
        """The numbers of the rows of each update that is not done, by its ticket."""
        self.follow_modules()

    def follow_modules(self) -> None:
        """Go by the Learners' modules as they are now; forget the steps of those that are gone."""
        # Asked here and kept: asking before each update would wait for those in flight.
        found: dict[ModuleID, tuple[int, float] | None] = self._group.foreach_learner(_horizons_of)[0]
        self._horizons = {module_id: horizon for module_id, horizon in found.items() if horizon is not None}
        self._replay.forget_modules_but(found)

    def run(self, steps: int, timesteps: Mapping[str, int]) -> Results:
        """Take `steps` gradient steps in one call; returns the results, or those of an earlier call that were ready."""
        config = self._config
        draws = self._replay.sample(
            steps * config.train_batch_size,
            n_step={module_id: n_step for module_id, (n_step, _) in self._horizons.items()},
            gamma={module_id: gamma for module_id, (_, gamma) in self._horizons.items()},
            module_ids=self._trained,
        )
        if not draws.columns:
            return {}  # Nothing trains at present.
        batch = MultiAgentBatch(draws.columns, env_steps=steps * config.train_batch_size)
        arguments: dict[str, Any] = {"timesteps": timesteps, "minibatch_size": config.train_batch_size}
        if not config.updates_while_sampling:
            results = self._group.update_from_batch(batch, **arguments)
            self._numbers[results[ALL_MODULES]["ticket"]] = draws.numbers
            return self._done(results)
        ready = self._group.update_from_batch(batch, async_update=True, return_state=True, **arguments)
        self._numbers[float(self._group.get_stats()["submitted"])] = draws.numbers
        return self._latest(ready)

    @property
    def _trained(self) -> list[ModuleID]:
        """The modules whose rows are worth drawing; a rule that looks at the batch decides when it sees one."""
        rule = self._group.should_update
        return [m for m in self._horizons if rule is None or callable(rule) or m in rule]

    def drain(self) -> Results:
        """Wait for all updates; the results of the last of them, or {}."""
        return self._latest(self._group.drain()) if self._numbers else {}

    def _latest(self, finished: list[Results]) -> Results:
        latest: Results = {}
        for results in finished:
            latest = self._done(results)
        return latest

    def _done(self, results: Results) -> Results:
        ticket = results[ALL_MODULES]["ticket"]
        numbers = self._numbers.pop(ticket, {})  # None of an update that somebody else has handed in.
        # Tickets before it that have not come were dropped.
        self._numbers = {other: kept for other, kept in self._numbers.items() if other > ticket}
        errors = {m: found.pop(TD_ERRORS) for m, found in results.items() if TD_ERRORS in found}
        self._replay.update_priorities(numbers, {m: found for m, found in errors.items() if m in numbers})
        self.weights = results.pop(STATE_AFTER_UPDATE, None)
        return results


def _horizons_of(learner: TorchLearner) -> dict[ModuleID, tuple[int, float] | None]:
    """`n_step` and `gamma` of each module, its overrides applied; None for one without parameters that train."""
    horizons: dict[ModuleID, tuple[int, float] | None] = {}
    for module_id, module in learner.module.items():
        config = learner.config_for_module(module_id)
        trains = any(parameter.requires_grad for parameter in module.parameters())
        horizons[module_id] = (config.n_step, config.gamma) if trains else None
    return horizons
