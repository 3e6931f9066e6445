"""The settings shared by all algorithms, one class for each setter of AlgorithmConfig."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
)

from unison.config.describe import Shown
from unison.config.environment import checked_environment
from unison.config.model import ListOf, ModelConfig
from unison.config.optimizer import OptimizerSetting
from unison.config.schedule import Scheduled
from unison.config.settings import AnyDict, AnySpace, AnySpec, Function, LearnerClass, Settings
from unison.config.values import freeze, to_plain
from unison.errors import ModuleError
from unison.types import ALL_MODULES, DEFAULT_MODULE_ID

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""


Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
"""What torch, numpy (its global state too) and environments all take."""


class Section(Settings):
    """The settings of one setter."""

    positional: ClassVar[bool] = False
    """Whether the first setting may be given without its name."""


class EnvironmentSection(Section):
    """What the agent acts in: an environment, or only its spaces."""

    positional: ClassVar[bool] = True

    env: Annotated[str | Function | None, BeforeValidator(checked_environment)] = Field(
        None,
        description="A Gymnasium or PettingZoo id, an environment class, or a function env_config -> environment.",
    )
    env_config: AnyDict = Field(
        {}, description="Keyword arguments of the id's or class's environment; the one argument of a function."
    )
    observation_space: AnySpace | None = Field(None, description="The observation space; None asks the environment.")
    action_space: AnySpace | None = Field(None, description="The action space; None asks the environment.")


class FrameworkSection(Section):
    """What computes the updates."""

    positional: ClassVar[bool] = True

    framework: Literal["torch"] = Field("torch", description="The tensor library.")
    engine: Literal["auto", "eager", "inductor", "xla"] = Field(
        "auto", description="What runs the update step; auto takes the one measured fastest."
    )
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="The precision of forward and backward passes; fp16 scales the loss."
    )
    num_threads: PositiveInt | None = Field(None, description="Threads of a Learner's process; None leaves them.")


class ResourcesSection(Section):
    """Who runs where."""

    num_learners: NonNegativeInt = Field(0, description="Learner processes; 0 for one Learner in this process.")
    num_cpus_per_learner: PositiveFloat = Field(1, description="CPUs of each Learner.")
    num_gpus_per_learner: NonNegativeFloat = Field(0, description="GPUs of each Learner.")
    local_gpu_idx: NonNegativeInt = Field(0, description="The GPU that a Learner in this process takes.")
    num_env_runners: NonNegativeInt = Field(0, description="Sampling processes; 0 for sampling in this process.")
    num_cpus_per_env_runner: PositiveFloat = Field(1, description="CPUs of each env runner.")
    num_gpus_per_env_runner: NonNegativeFloat = Field(0, description="GPUs of each env runner.")
    backend: Literal["auto", "processes", "ray"] = Field(
        "auto", description="Where processes run: on this machine, on a Ray cluster, or as found."
    )
    placement_strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = Field(
        "PACK", description="How a Ray cluster places the Learners on its nodes."
    )


def _plain_model_config(settings: Mapping[str, Any]) -> Any:
    return ModelConfig(**settings).model_dump(mode="json")


class RLModuleSection(Section):
    """The networks: a spec, or settings of the default ones."""

    rl_module_spec: AnySpec | None = Field(
        None, description="A SingleAgentRLModuleSpec or MultiAgentRLModuleSpec; None makes the algorithm's default."
    )
    # The alias is the setting's name: pydantic reserves `model_config` for itself.
    model_settings: Annotated[
        dict[str, Any],
        AfterValidator(ModelConfig.complete),
        AfterValidator(freeze),
        PlainSerializer(_plain_model_config),
        Shown("a dict"),
    ] = Field({}, alias="model_config", description="Settings of the default networks (see ModelConfig).")


class TrainingSection(Section):
    """The update: learning rate, batches, clipping, optimizer. Batch sizes are global, over all Learners."""

    for_the_whole_learner: ClassVar[frozenset[str]] = frozenset(
        {
            "train_batch_size",
            "minibatch_size",
            "num_epochs",
            "shuffle_batch_per_epoch",
            "gradient_accumulation_steps",
            "nan_policy",
            "learner_class",
            "learner_connectors",
        }
    )
    """Settings that cannot differ between the modules of one Learner."""

    lr: Scheduled[NonNegativeFloat] = Field(3e-4, description="The learning rate.")
    gamma: Fraction = Field(0.99, description="The discount factor.")
    grad_clip: PositiveFloat | None = Field(None, description="The bound that gradients are clipped to; None for none.")
    grad_clip_by: Literal["value", "norm", "global_norm"] = Field(
        "global_norm", description="Clip each number, each tensor's norm, or the norm over an optimizer's tensors."
    )
    train_batch_size: PositiveInt = Field(
        2048, description="Environment steps that one training iteration learns from."
    )
    minibatch_size: PositiveInt | None = Field(None, description="Rows of one gradient step; None for the whole batch.")
    num_epochs: PositiveInt = Field(1, description="Passes over each train batch.")
    shuffle_batch_per_epoch: bool = Field(True, description="Whether each pass takes the rows in a new random order.")
    gradient_accumulation_steps: PositiveInt = Field(
        1, description="Minibatches whose gradients are averaged for one optimizer step."
    )
    nan_policy: Literal["skip", "zero", "raise"] = Field(
        "skip", description="What happens to a step with non-finite gradients: skipped, set to zero, or an error."
    )
    learner_class: LearnerClass | None = Field(None, description="The Learner's class; None takes the algorithm's.")
    optimizer: OptimizerSetting = Field("adam", description="The optimizer; as a dict, with options beside its name.")
    learner_connectors: ListOf[Function] | None = Field(
        None, description="Functions that turn episodes into a batch; None takes the algorithm's."
    )


def check_module_id(module_id: Any) -> None:
    """Raise `ModuleError` unless it can be the id of a module."""
    if not isinstance(module_id, str) or not module_id:
        raise ModuleError(f"{module_id!r} is no module id; give a string that is not empty.")
    if module_id == ALL_MODULES:
        raise ModuleError(f"'{ALL_MODULES}' stands for all modules; give this module another id.")


def _checked_ids(policies: dict[str, Any]) -> dict[str, Any]:
    for module_id in policies:
        check_module_id(module_id)
    return policies


def _by_module_id(policies: Any) -> Any:
    if isinstance(policies, set | frozenset):
        # A set has another order in every process; weights are drawn and gradients laid out in the order of modules.
        policies = sorted(cast("set[str]", policies), key=str)
    return dict.fromkeys(cast("list[str]", policies)) if isinstance(policies, list | tuple) else policies


Policies = Annotated[
    dict[str, AnySpec | None],
    Field(min_length=1),
    BeforeValidator(_by_module_id),
    AfterValidator(_checked_ids),
    AfterValidator(freeze),
    Shown("a set, list or dict of module ids"),
]


class MultiAgentSection(Section):
    """The modules, who maps to which, who trains, and what differs per module."""

    policies: Policies = Field(
        dict.fromkeys([DEFAULT_MODULE_ID]), description="The module ids; as a dict, with a spec (or None) for each."
    )
    policy_mapping_fn: Function | None = Field(
        None,
        description="A function (agent_id, episode) -> module id; None: the module of the agent's name, or the only.",
    )
    policies_to_train: ListOf[str] | Function | None = Field(
        None, description="The modules that train: their ids, a function (module_id, batch) -> bool, or None for all."
    )
    algorithm_config_overrides_per_module: Annotated[
        dict[str, dict[str, Any]],
        AfterValidator(freeze),
        PlainSerializer(to_plain),
        Shown("a dict {module id: {setting: value}}"),
    ] = Field({}, description="Training settings of single modules, such as {'p1': {'lr': 1e-4}}.")


class EnvRunnersSection(Section):
    """How experience is sampled."""

    num_envs_per_env_runner: PositiveInt = Field(
        1, description="Environment copies that one env runner steps together."
    )
    rollout_fragment_length: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Steps of each environment between updates off policy (auto: 1), and of sample() without a number "
        "(auto: train_batch_size over all environments). On policy, train_batch_size alone says how many are sampled.",
    )
    vectorization: Literal["auto", "sync", "async", "vector_entry_point"] = Field(
        "auto", description="How copies are stepped: in turn, in processes, or by the environment's own vector version."
    )
    explore: bool = Field(True, description="Whether actions are sampled instead of the most likely ones.")
    normalize_observations: bool = Field(
        False, description="Whether observations are normalized by running statistics."
    )
    normalize_rewards: bool = Field(False, description="Whether rewards are divided by the running std of the return.")
    clip_actions: bool = Field(False, description="Whether Box actions are clipped to their bounds.")
    normalize_actions: bool = Field(True, description="Whether Box actions in [-1, 1] are scaled to their bounds.")


class EvaluationSection(Section):
    """Evaluation during training, on environments of its own."""

    evaluation_interval: PositiveInt | None = Field(None, description="Iterations between evaluations; None for never.")
    evaluation_duration: PositiveInt = Field(10, description="Episodes of one evaluation.")
    evaluation_num_envs: PositiveInt = Field(1, description="Environment copies that evaluate together.")
    evaluation_explore: bool = Field(False, description="Whether evaluation samples its actions.")
    evaluation_env_config: AnyDict = Field({}, description="What evaluation changes in env_config.")


class CheckpointingSection(Section):
    """When to save, and what to keep."""

    checkpoint_interval: PositiveInt | None = Field(None, description="Iterations between checkpoints; None for never.")
    checkpoint_at_end: bool = Field(True, description="Whether training ends with a checkpoint.")
    keep_last: PositiveInt | None = Field(None, description="Newest checkpoints that are kept; None keeps all.")
    keep_best_by: str | None = Field(
        None, description="The result whose best checkpoint is kept too, such as 'evaluation/episode_return_mean'."
    )


class FaultToleranceSection(Section):
    """What happens on failures."""

    restart_failed_environments: bool = Field(False, description="Whether a crashed environment is made anew.")
    max_environment_restarts: NonNegativeInt = Field(10, description="Restarts of environments before giving up.")
    max_learner_restarts: NonNegativeInt = Field(3, description="Restarts of Learners before giving up.")
    max_env_runner_restarts: NonNegativeInt = Field(10, description="Restarts of env runners before giving up.")
    learner_timeout_s: PositiveFloat = Field(
        300.0,
        description="Seconds that an update or a sample may take before a Learner or an env runner counts as hung.",
    )
    learner_start_timeout_s: PositiveFloat = Field(
        120.0, description="Seconds that Learners and env runners have to start, and a cluster to make room for them."
    )
    max_queued_updates: PositiveInt = Field(4, description="Asynchronous updates that may wait.")
    queue_policy: Literal["block", "drop"] = Field(
        "block", description="What a full queue does to a new asynchronous update: make it wait, or drop it whole."
    )


class ReportingSection(Section):
    """Metrics and where they go."""

    metrics_window: PositiveInt = Field(100, description="Episodes that sampling's averages are taken over.")
    loggers: ListOf[Literal["jsonl", "csv", "tensorboard"]] = Field(
        ("jsonl", "csv"), description="The files that metrics are written to."
    )


class DebuggingSection(Section):
    """Seeds and logs."""

    seed: Seed | None = Field(None, description="The seed of everything random; None draws one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="The least level logged.")
