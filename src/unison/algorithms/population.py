"""Modules that come, go and change roles while an Algorithm trains."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from unison.config import AlgorithmConfig, checked_should_update
from unison.data.multi_agent_episode import PolicyMapping
from unison.errors import ConfigError, ModuleError
from unison.learner import TorchLearner
from unison.learner.learner import ShouldUpdate
from unison.learner.setup import check_addition, check_exists
from unison.learner_group import LearnerGroup
from unison.modules import SingleAgentRLModuleSpec
from unison.registry import lookup
from unison.sampling import LocalRunner, Runner
from unison.types import ModuleID


class Population(ABC):
    """The part of an Algorithm that adds and removes modules, on Learners and samplers at once; not for use alone."""

    config: AlgorithmConfig
    learner_group: LearnerGroup
    env_runner: Runner
    policy_mapping_fn: PolicyMapping | None = None
    """What was put in place of the setting of this name; None: nothing."""
    _evaluator: LocalRunner | None = None

    @abstractmethod
    def sync_weights(self) -> None:
        """Give the sampling modules the Learners' weights."""

    @abstractmethod
    def _check_is_running(self) -> None:
        """Raise if it was stopped."""

    def modules_changed(self) -> None:  # noqa: B027  # most algorithms keep nothing by module
        """Hook: modules were added, removed or loaded, on Learners and samplers alike."""

    @property
    def module_ids(self) -> list[ModuleID]:
        """The modules that there are now."""
        return self.learner_group.get_module_ids()

    def add_module(
        self,
        *,
        module_id: ModuleID,
        module_spec: SingleAgentRLModuleSpec | None = None,
        config_overrides: Mapping[str, Any] | None = None,
        policies_to_train: ShouldUpdate = None,
        policy_mapping_fn: PolicyMapping | None = None,
    ) -> None:
        """Add a module to Learners, env runners and checkpoints, or (on an error) to none of them.

        Args:
            module_id: its new id.
            module_spec: what to build; None, and what it leaves open: as the config says for every module.
            config_overrides: training settings in which it differs; see Learner.add_module.
            policies_to_train: which modules train from now on; None: as before.
            policy_mapping_fn: who acts for which agent in all episodes from now on; None: as before.

        Raises:
            ModuleError: the id is taken or can be none, or policies_to_train names a module that does not exist.
            ConfigError: a setting is wrong, or agents have different spaces and the spec does not say which it has.
        """
        self._check_is_running()
        if policy_mapping_fn is not None:
            self._check_has_many_agents()
        known = self.module_ids
        check_addition(module_id, SingleAgentRLModuleSpec() if module_spec is None else module_spec, known)
        trained = checked_should_update(policies_to_train, [*known, module_id])
        spec = self._completed(module_id, module_spec)
        self.learner_group.add_module(module_id=module_id, module_spec=spec, config_overrides=config_overrides)
        done: list[Runner] = []
        try:
            for runner in self._runners():
                runner.add_module(module_id=module_id, module_spec=spec)
                done.append(runner)
            self.sync_weights()
            self.modules_changed()
            if trained is not None:  # Last: then there is never an old rule to put back.
                self.learner_group.replace_should_update(trained)
        except BaseException:
            for runner in done:
                runner.remove_module(module_id)
            self.learner_group.remove_module(module_id)
            raise
        if policy_mapping_fn is not None:
            self.set_policy_mapping_fn(policy_mapping_fn)

    def add_snapshot(
        self, module_id: ModuleID, *, of: ModuleID, policy_mapping_fn: PolicyMapping | None = None
    ) -> None:
        """Add a frozen copy of a module as it is now: it acts like it, never trains, and costs no optimizer.

        Args:
            module_id: the copy's id.
            of: the module to copy.
            policy_mapping_fn: as `add_module`.

        Raises:
            ModuleError: `module_id` is taken, or there is no module `of`.
        """
        self._check_is_running()
        specs = self._specs()
        check_exists(of, specs)
        weights = self.learner_group.get_weights([of])[of]
        frozen = {**dict(specs[of].model_config or {}), "frozen": True}
        self.add_module(module_id=module_id, module_spec=replace(specs[of], model_config=frozen))
        try:
            self.learner_group.set_weights({module_id: weights})
            self.sync_weights()
        except BaseException:
            self.remove_module(module_id)
            raise
        if policy_mapping_fn is not None:
            self.set_policy_mapping_fn(policy_mapping_fn)

    def remove_module(
        self,
        module_id: ModuleID,
        *,
        policies_to_train: ShouldUpdate = None,
        policy_mapping_fn: PolicyMapping | None = None,
    ) -> None:
        """Remove a module from Learners, env runners and checkpoints, or (on an error) from none of them.

        Running episodes in which it acts are abandoned.

        Args:
            module_id: what goes.
            policies_to_train: which modules train from now on; None: as before.
            policy_mapping_fn: who acts for which agent from now on; None: as before.

        Raises:
            ModuleError: there is no such module, it acts for the only agent, or policies_to_train names one that does
                not exist then.
        """
        self._check_is_running()
        if policy_mapping_fn is not None:
            self._check_has_many_agents()
        specs = self._specs()
        check_exists(module_id, specs)
        trained = checked_should_update(policies_to_train, [known for known in specs if known != module_id])
        done: list[Runner] = []
        try:
            for runner in self._runners():
                runner.remove_module(module_id)
                done.append(runner)
            self.learner_group.remove_module(module_id)
        except BaseException:
            for runner in done:
                with suppress(ModuleError):
                    runner.add_module(module_id=module_id, module_spec=specs[module_id])
            self.sync_weights()
            raise
        self.modules_changed()
        if trained is not None:
            self.set_policies_to_train(trained)
        if policy_mapping_fn is not None:
            self.set_policy_mapping_fn(policy_mapping_fn)

    def set_policies_to_train(self, policies_to_train: ShouldUpdate) -> None:
        """Say anew which modules train: their ids, a function `(module_id, batch) -> bool`, or None for all."""
        self._check_is_running()
        self.learner_group.replace_should_update(policies_to_train)

    def set_policy_mapping_fn(self, policy_mapping_fn: PolicyMapping) -> None:
        """Say anew which module acts for which agent, in all episodes that begin from now on.

        Raises:
            ConfigError: the environment has one agent.
        """
        self._check_is_running()
        self._check_has_many_agents()
        for runner in self._runners():
            runner.set_policy_mapping_fn(policy_mapping_fn)
        self.policy_mapping_fn = policy_mapping_fn

    # --- for the Algorithm ---

    def _runners(self) -> list[Runner]:
        return [self.env_runner, *([] if self._evaluator is None else [self._evaluator])]

    def _bring_up_to_date(self, runner: Runner, known: list[ModuleID]) -> None:
        """Give a sampler, which has the modules `known`, those that the Learners have."""
        specs = self._specs()
        for module_id in known:
            if module_id not in specs:
                runner.remove_module(module_id)
        for module_id, spec in specs.items():
            if module_id not in known:
                runner.add_module(module_id=module_id, module_spec=spec)
        if self.config.is_multi_agent:
            runner.set_policy_mapping_fn(self.policy_mapping_fn)

    def _specs(self) -> dict[ModuleID, SingleAgentRLModuleSpec]:
        """The spec of each module that the Learners have now."""
        return self.learner_group.foreach_learner(_specs_of)[0]

    def _completed(self, module_id: ModuleID, spec: SingleAgentRLModuleSpec | None) -> SingleAgentRLModuleSpec:
        """The spec with what it leaves open filled in."""
        of_all: Any = self.config.rl_module_spec
        general = of_all if isinstance(of_all, SingleAgentRLModuleSpec) else SingleAgentRLModuleSpec()
        spec = general if spec is None else spec
        module_class = spec.module_class or general.module_class or lookup("module", self.config.default_module)
        spec = replace(spec, module_class=module_class)
        if spec.model_config is None:
            spec = replace(spec, model_config=dict(self.config.model_config))
        if spec.observation_space is not None and spec.action_space is not None:
            return spec
        found = self.config.environment_spaces()
        pairs = list(found.values()) if isinstance(found, dict) else [found]
        if any(pair != pairs[0] for pair in pairs):
            raise ConfigError(
                f"The agents have different spaces; give those of module '{module_id}' in its spec: "
                "SingleAgentRLModuleSpec(observation_space=..., action_space=...)."
            )
        return replace(
            spec,
            observation_space=spec.observation_space or pairs[0][0],
            action_space=spec.action_space or pairs[0][1],
        )

    def _check_has_many_agents(self) -> None:
        if not self.config.is_multi_agent:
            raise ConfigError("policy_mapping_fn is for environments of many agents; this one has one.")


def _specs_of(learner: TorchLearner) -> dict[ModuleID, SingleAgentRLModuleSpec]:
    return {
        module_id: SingleAgentRLModuleSpec(
            type(module), module.observation_space, module.action_space, module.model_config
        )
        for module_id, module in learner.module.items()
    }
