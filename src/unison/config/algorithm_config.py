"""AlgorithmConfig: every setting of a training run, as one checked and fluent object."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, cast

from unison.config import building, sections
from unison.config.contradictions import Contradiction, common_contradictions
from unison.config.environment import FoundSpaces, spaces_of
from unison.config.fluent import FluentConfig
from unison.config.schedule import SCHEDULABLE, Schedule
from unison.config.setter import Setter, catalog
from unison.errors import ConfigError
from unison.types import ModuleID


class AlgorithmConfig(FluentConfig):
    """The settings of a training run.

    Setters take settings by name and return the config: `PPOConfig().environment("CartPole-v1").training(lr=1e-3)`.
    Each setting is also an attribute: `config.lr`. Whatever is wrong raises ConfigError at once and changes nothing.
    Settings are values: dicts among them cannot be changed in place.
    """

    default_module: ClassVar[str] = "actor_critic"
    """The registered name of the module that is built where a spec names none."""

    is_on_policy: ClassVar[bool] = True
    """Whether losses compare with the policy that acted; then episodes hold `action_dist_inputs` and `action_logp`."""

    environment = Setter(sections.EnvironmentSection)
    framework = Setter(sections.FrameworkSection)
    resources = Setter(sections.ResourcesSection)
    rl_module = Setter(sections.RLModuleSection)
    training = Setter(sections.TrainingSection)
    multi_agent = Setter(sections.MultiAgentSection)
    env_runners = Setter(sections.EnvRunnersSection)
    evaluation = Setter(sections.EvaluationSection)
    checkpointing = Setter(sections.CheckpointingSection)
    fault_tolerance = Setter(sections.FaultToleranceSection)
    reporting = Setter(sections.ReportingSection)
    debugging = Setter(sections.DebuggingSection)

    def contradictions(self) -> Iterator[Contradiction]:
        """What makes no sense together. Hook: a subclass yields its own beside those of its base."""
        yield from common_contradictions(self)
        for module_id in self.algorithm_config_overrides_per_module:
            yield from self._config_with_overrides(module_id).contradictions()

    def get_config_for_module(self, module_id: ModuleID) -> Self:
        """The frozen config of one module: its overrides applied, or the common one where it has none."""
        if module_id not in self._derived:
            if module_id in self.algorithm_config_overrides_per_module:
                self._derived[module_id] = self._config_with_overrides(module_id)
            else:
                self._derived[module_id] = self if self.is_frozen else self.copy().freeze()
        return self._derived[module_id]

    def with_overrides(self, overrides: Mapping[str, Any], where: str) -> Self:
        """The frozen config of a module that differs in some settings.

        Args:
            overrides: these settings, by name.
            where: what holds them, for the message.

        Raises:
            ConfigError: a setting is wrong, or is one of the whole Learner.
        """
        common = cast("sections.TrainingSection", self._sections["training"]).for_the_whole_learner
        for name in overrides:
            setter = catalog(type(self)).setter_of.get(name)
            if setter and (setter != "training" or name in common):
                raise ConfigError(f"{where}: '{name}' is the same for all modules; set it by {setter}().")
        try:
            return self.copy().change({**overrides, "algorithm_config_overrides_per_module": {}}).freeze()
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error

    def _config_with_overrides(self, module_id: ModuleID) -> Self:
        overrides = self.algorithm_config_overrides_per_module[module_id]
        return self.with_overrides(overrides, f"algorithm_config_overrides_per_module['{module_id}']")

    def environment_spaces(self) -> FoundSpaces:
        """The spaces of the environment, which is made once to ask it; a dict by agent where there are many."""
        if "environment_spaces" not in self._derived:
            self._derived["environment_spaces"] = spaces_of(self.env, self.env_config)
        return self._derived["environment_spaces"]

    @property
    def is_multi_agent(self) -> bool:
        """Whether many agents act in the environment: it is one of PettingZoo's kind."""
        return self.env is not None and isinstance(self.environment_spaces(), dict)

    @property
    def env_steps_per_iteration(self) -> int:
        """Environment steps that one training iteration samples."""
        return self.train_batch_size

    def scheduled_settings(self) -> dict[str, Schedule]:
        """The training settings that may follow a schedule, as schedules (lr among them)."""
        section = self._sections["training"]
        return {
            name: Schedule(getattr(section, field))
            for name, field in section.field_names().items()
            if SCHEDULABLE in type(section).model_fields[field].metadata
        }

    def build_learner(self, env: Any = None, spaces: building.Spaces | None = None) -> Any:
        """A built Learner.

        Args:
            env: an environment (id, class, function or instance) to take the spaces from, instead of the config's.
            spaces: the spaces themselves: `{module_id: (observation_space, action_space)}`.
        """
        return building.build_learner(self, env, spaces)

    def build_learner_group(
        self, env: Any = None, spaces: building.Spaces | None = None, rl_module_spec: Any = None
    ) -> Any:
        """A LearnerGroup, built; `env` and `spaces` as in `build_learner`, `rl_module_spec` replaces the config's."""
        config = self if rl_module_spec is None else self.copy().change({"rl_module_spec": rl_module_spec})
        return building.build_learner_group(config, env, spaces)

    def build(self) -> Any:
        """The Algorithm: it trains, evaluates, saves and loads."""
        return building.build_algorithm(self)
