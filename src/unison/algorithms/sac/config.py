"""SAC's settings, with defaults that the field uses for a first try."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
)

from unison.config import AlgorithmConfig, Contradiction, ModelConfig, Scheduled, Setter, TrainingSection
from unison.config.describe import Shown
from unison.config.model import ListOf
from unison.config.sections import CheckpointingSection, Fraction, OptimizerSetting, RLModuleSection
from unison.config.values import freeze
from unison.registry import register


class SACTraining(TrainingSection):
    """The update of SAC. Batch sizes are global, over all Learners.

    Sources of the defaults: [H] Haarnoja et al. 2018b (arXiv:1812.05905), Table 1 and section 7; [C] Christodoulou 2019
    (arXiv:1910.07207), appendix B; [P] Schaul et al. 2016 (arXiv:1511.05952), Table 3; [S] Achiam 2018 (OpenAI
    Spinning Up).
    """

    for_the_whole_learner: ClassVar[frozenset[str]] = TrainingSection.for_the_whole_learner | {
        "updates_per_step",
        "warm_up_steps",
        "steps_per_iteration",
        "updates_while_sampling",
        "replay_capacity",
        "replay_prioritized",
        "replay_alpha",
        "replay_beta",
        "replay_device",
        "replay_directory",
    }

    lr: Scheduled[NonNegativeFloat] = Field(3e-4, description="The learning rate of what has none of its own. [H]")
    actor_lr: Scheduled[NonNegativeFloat] | None = Field(
        None, description="The learning rate of the policy; None takes lr. [H: one rate for all]"
    )
    critic_lr: Scheduled[NonNegativeFloat] | None = Field(
        None, description="The learning rate of each critic; None takes lr. [H: one rate for all]"
    )
    alpha_lr: Scheduled[NonNegativeFloat] | None = Field(
        None, description="The learning rate of the temperature, 0 to keep it; None takes lr. [H: one rate for all]"
    )
    train_batch_size: PositiveInt = Field(256, description="Rows of one gradient step, drawn from the replay. [H]")
    shuffle_batch_per_epoch: bool = Field(
        False, description="Whether rows are put in a new order; they are drawn at random already."
    )
    optimizer: OptimizerSetting = Field(
        "adam", description="The optimizer of each of the four; as a dict, with options beside its name. [H]"
    )
    tau: Annotated[float, Field(gt=0, le=1)] = Field(
        0.005, description="The share of the critics that moves into the target critics at every step. [H]"
    )
    initial_alpha: PositiveFloat = Field(1.0, description="The temperature at the start. [H: log alpha starts at 0]")
    target_entropy: float | Literal["auto"] = Field(
        "auto",
        description="The entropy, in nats, that the temperature is tuned for; auto: minus the size of the action [H], "
        "or 0.98 of the most that discrete actions can have [C].",
    )
    n_step: PositiveInt = Field(1, description="Rewards that are summed up before a critic's value. [H: 1]")
    updates_per_step: PositiveFloat = Field(
        1.0, description="Gradient steps for each environment step (the update-to-data ratio). [H: 1]"
    )
    warm_up_steps: NonNegativeInt = Field(
        1000, description="Environment steps with random actions before the first update. [S: update_after]"
    )
    steps_per_iteration: PositiveInt = Field(
        1000, description="Environment steps of one training iteration, at whose end results are reported."
    )
    updates_while_sampling: bool = Field(
        False, description="Whether sampling goes on while Learners in processes of their own update."
    )
    replay_capacity: PositiveInt = Field(1_000_000, description="Steps of each module that are kept. [H]")
    replay_prioritized: bool = Field(False, description="Whether steps are drawn by their last error. [H: no]")
    replay_alpha: Fraction = Field(0.6, description="How much priorities count; 0 draws all steps alike. [P]")
    replay_beta: Fraction = Field(0.4, description="How much of the bias of priorities is corrected by weights. [P]")
    replay_device: str = Field("cpu", description="Where the replay lies, such as 'cuda'.")
    replay_directory: str | None = Field(
        None, description="A directory for files that hold a replay larger than memory; None holds it in memory."
    )


class SACModelConfig(ModelConfig):
    """Settings of the default networks of SAC; the sizes are those of Haarnoja et al. 2018b, Table 1."""

    hidden_sizes: ListOf[PositiveInt] = Field((256, 256), description="Units of each hidden layer.")
    activation: Literal["tanh", "relu", "elu", "gelu", "silu", "leaky_relu"] = Field(
        "relu", description="The nonlinearity after each hidden layer."
    )
    free_log_std: bool = Field(
        False, description="Whether a Gaussian's log-std is a parameter of its own instead of an output of the network."
    )


def _plain(settings: dict[str, Any]) -> Any:
    return SACModelConfig(**settings).model_dump(mode="json")


class SACModuleSection(RLModuleSection):
    """The networks: a spec, or settings of the default ones."""

    model_settings: Annotated[
        dict[str, Any],
        AfterValidator(SACModelConfig.complete),
        AfterValidator(freeze),
        PlainSerializer(_plain),
        Shown("a dict"),
    ] = Field({}, alias="model_config", description="Settings of the default networks (see ModelConfig).")


class SACCheckpointing(CheckpointingSection):
    """When to save, and what to keep."""

    save_replay: bool = Field(
        False, description="Whether checkpoints hold the replay; without it a resumed run fills a new one."
    )


@register("config", "sac")
class SACConfig(AlgorithmConfig):
    """The settings of a SAC run."""

    algorithm_name: ClassVar[str | None] = "sac"
    default_module: ClassVar[str] = "sac"
    is_on_policy: ClassVar[bool] = False

    rl_module = Setter(SACModuleSection)
    training = Setter(SACTraining)
    checkpointing = Setter(SACCheckpointing)

    @property
    def env_steps_per_iteration(self) -> int:
        """See AlgorithmConfig.env_steps_per_iteration."""
        return self.steps_per_iteration

    def contradictions(self) -> Iterator[Contradiction]:
        """See AlgorithmConfig.contradictions."""
        yield from super().contradictions()
        for name, idle in (("minibatch_size", None), ("num_epochs", 1)):
            if getattr(self, name) != idle:
                yield Contradiction(
                    (name,),
                    f"{name}={getattr(self, name)} means nothing to SAC, which takes one gradient step on each "
                    "train_batch_size rows that it draws. Set updates_per_step for more steps.",
                )
        if self.learner_connectors:
            yield Contradiction(
                ("learner_connectors",), "SAC learns from rows of its replay, so learner_connectors are never called."
            )
        if self.replay_directory is not None and self.replay_device != "cpu":
            yield Contradiction(
                ("replay_directory", "replay_device"),
                f"A replay in files can't lie on '{self.replay_device}'; leave out one of both settings.",
            )
        settings = self.model_config
        if settings["share_value_layers"] or settings["free_log_std"]:
            name = "share_value_layers" if settings["share_value_layers"] else "free_log_std"
            yield Contradiction(
                ("model_config",), f"SAC's networks know no {name}: critics see actions, and the spread is learned."
            )
        if settings["lstm_size"] is not None:
            yield Contradiction(("model_config",), "SAC's default networks have no memory; leave out lstm_size.")
