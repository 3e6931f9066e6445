"""The Learner: modules, losses and optimizers, turned into updates by a chain of hooks."""

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from unison.config import AlgorithmConfig, ShouldUpdate, checked_should_update
from unison.data import Columns
from unison.errors import ModuleError, NotBuiltError, UnisonError
from unison.learner.collective import Alone, Collective
from unison.learner.learner_state import LearnerState
from unison.learner.metrics import Metrics, StepMetrics
from unison.learner.step import StepContext
from unison.modules import MultiAgentRLModule, MultiAgentRLModuleSpec, RLModule, SingleAgentRLModuleSpec
from unison.types import ALL_MODULES, DEFAULT_MODULE_ID, ModuleID, ParamRef

ModuleSpec = SingleAgentRLModuleSpec | MultiAgentRLModuleSpec
Results = dict[ModuleID, dict[str, Any]]


class Learner(LearnerState):
    """Owns modules and optimizers and turns batches or episodes into updates.

    An update is a chain of hooks, each of which may be overridden alone:

        before_gradient_based_update
        for each minibatch, `_update`:
            module.forward_train -> compute_loss (compute_loss_for_module) -> compute_gradients
            -> postprocess_gradients (postprocess_gradients_for_module) -> apply_gradients
        after_gradient_based_update

    It is applied wholly or not at all: whatever raises on the way leaves parameters, optimizers and
    counters as they were.

    Args:
        config: the settings; frozen from here on.
        module_spec: the modules to build, else those of the config.
        module: ready modules; a single one goes by DEFAULT_MODULE_ID.
        collective: the group that it is one of.
    """

    framework: ClassVar[str]
    required_columns: ClassVar[tuple[str, ...]] = (Columns.OBS,)
    """The columns without which no batch can be trained on."""

    def __init__(
        self,
        *,
        config: AlgorithmConfig,
        module_spec: ModuleSpec | None = None,
        module: RLModule | MultiAgentRLModule | None = None,
        collective: Collective | None = None,
    ) -> None:
        if module is not None and module_spec is not None:
            raise ModuleError("Give a Learner either a module or a module_spec, not both.")
        self.config = config if config.is_frozen else config.copy().freeze()
        self.collective = collective or Alone()
        self.metrics = Metrics()
        self.step = StepContext()
        self.counters = {"num_updates": 0, "num_env_steps_trained_lifetime": 0}
        self.results: Results = {}
        """What the running update has logged so far, for `after_gradient_based_update`."""
        self._given_module = module
        self._module_spec = module_spec
        self._module: MultiAgentRLModule | None = None
        self.config_overrides: dict[ModuleID, dict[str, Any]] = {}
        """Of modules that were added: the settings in which they differ."""
        self._module_configs: dict[ModuleID, AlgorithmConfig] = {}
        self.should_update: ShouldUpdate = self.config.policies_to_train
        """Which modules train: the setting `policies_to_train`, or what `replace_should_update` put in its place."""

    # --- building ---

    @abstractmethod
    def build(self) -> None:
        """Make modules, optimizers, schedules and connectors; a second call does nothing."""

    def _check_is_built(self) -> None:
        """Raise `NotBuiltError` before `build()`."""
        if self._module is None:
            raise NotBuiltError(f"This {type(self).__name__} is not built yet; call build() first.")

    @abstractmethod
    def _make_module(self) -> MultiAgentRLModule:
        """The modules, from `module`, `module_spec` or the config; a single one is wrapped."""

    @property
    def module(self) -> MultiAgentRLModule:
        """What it trains."""
        self._check_is_built()
        assert self._module is not None
        return self._module

    @property
    @abstractmethod
    def device(self) -> Any:
        """Where it trains."""

    @property
    def distributed(self) -> bool:
        """Whether it is one of several."""
        return self.collective.world_size > 1

    def config_for_module(self, module_id: ModuleID) -> AlgorithmConfig:
        """The settings of one module, its overrides applied."""
        if module_id == ALL_MODULES:
            return self.config
        return self._module_configs.get(module_id) or self.config.get_config_for_module(module_id)

    # --- updating ---

    @abstractmethod
    def update_from_batch(
        self,
        batch: Any,
        *,
        timesteps: Mapping[str, int] | None = None,
        minibatch_size: int | None = None,
        num_iters: int = 1,
    ) -> Results:
        """Pass `num_iters` times over a batch, in minibatches.

        Args:
            batch: a MultiAgentBatch, a SampleBatch or a mapping of columns (numpy or torch).
            timesteps: lifetime counts that schedules go by ("num_env_steps_sampled_lifetime").
            minibatch_size: rows of each module per step, over all Learners; None: all of them.
            num_iters: passes.

        Returns:
            `{module_id: {name: float}, ALL_MODULES: {...}}`: means over the rows of the last pass.

        Raises:
            BatchError: the batch can't be trained on; nothing has changed.
            NonFiniteError: under `nan_policy="raise"`; nothing has changed.
        """

    @abstractmethod
    def update_from_episodes(
        self,
        episodes: Sequence[Any],
        *,
        timesteps: Mapping[str, int] | None = None,
        minibatch_size: int | None = None,
        num_iters: int = 1,
    ) -> Results:
        """As `update_from_batch`, on the batch that the learner connectors make of episodes."""

    @abstractmethod
    def before_gradient_based_update(self, *, timesteps: Mapping[str, int]) -> None:
        """Hook before the first step of an update call."""

    @abstractmethod
    def after_gradient_based_update(self, *, timesteps: Mapping[str, int]) -> None:
        """Hook after the last step: moves learning rates and coefficients on their schedules."""

    @abstractmethod
    def _update(self, batch: Mapping[ModuleID, Any]) -> tuple[dict[ModuleID, Any], dict[ModuleID, Any], StepMetrics]:
        """The step on one minibatch; returns (fwd_out, loss_per_module, metrics). Engines trace it."""

    @abstractmethod
    def compute_loss(
        self, *, fwd_out: Mapping[ModuleID, Mapping[str, Any]], batch: Mapping[ModuleID, Any]
    ) -> dict[ModuleID, Any]:
        """The loss of each module (0-d), and under ALL_MODULES the total, which is made of them.

        With several Learners or gradient accumulation a minibatch is a part of its step, and each of the losses that
        are returned is given the weight of its rows. What the total has besides is to be weighed by the column
        `batch[module_id][LOSS_SHARE]`, where it is present.
        """

    @abstractmethod
    def compute_loss_for_module(
        self, *, module_id: ModuleID, config: AlgorithmConfig, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]
    ) -> Any:
        """The loss of one module: a 0-d tensor, a mean over the valid rows. An algorithm writes this."""

    @abstractmethod
    def compute_gradients(self, loss_per_module: Mapping[ModuleID, Any]) -> dict[ParamRef, Any]:
        """The gradient of the total loss for each parameter that is to move."""

    @abstractmethod
    def postprocess_gradients(self, gradients: dict[ParamRef, Any]) -> dict[ParamRef, Any]:
        """Change gradients before they are applied; calls the hook below for each module."""

    @abstractmethod
    def postprocess_gradients_for_module(
        self, *, module_id: ModuleID, config: AlgorithmConfig, module_gradients_dict: dict[ParamRef, Any]
    ) -> dict[ParamRef, Any]:
        """Change the gradients of one module: clips them, and logs their norm before."""

    @abstractmethod
    def apply_gradients(self, gradients: Mapping[ParamRef, Any]) -> None:
        """One step of every optimizer concerned; non-finite gradients are treated by `nan_policy`."""

    # --- optimizers ---

    @abstractmethod
    def configure_optimizers(self) -> None:
        """Call `configure_optimizers_for_module` for each compatible module."""

    @abstractmethod
    def configure_optimizers_for_module(self, module_id: ModuleID, config: AlgorithmConfig) -> None:
        """Register the optimizers of one module; by default one, as the settings `optimizer` and `lr` say."""

    @abstractmethod
    def register_optimizer(
        self,
        *,
        module_id: ModuleID = ALL_MODULES,
        optimizer_name: str = "default_optimizer",
        optimizer: Any,
        params: Sequence[Any],
        lr_or_lr_schedule: Any = None,
    ) -> None:
        """Make an optimizer known.

        Raises:
            OptimizerError: the name is taken, a parameter has an optimizer already, is not among
                those of the optimizer, or belongs to another module; or a learning rate is wrong.
        """

    @abstractmethod
    def get_optimizers_for_module(self, module_id: ModuleID = ALL_MODULES) -> list[tuple[str, Any]]:
        """`[(name, optimizer), ...]`; of all modules under ALL_MODULES."""

    @abstractmethod
    def get_optimizer(self, module_id: ModuleID = DEFAULT_MODULE_ID, optimizer_name: str = "default_optimizer") -> Any:
        """An optimizer; an unknown one raises `OptimizerError` and lists those known."""

    @abstractmethod
    def get_parameters(self, module: Any) -> list[Any]:
        """The trainable parameters of a module."""

    @abstractmethod
    def get_param_ref(self, param: Hashable) -> ParamRef:
        """The name of a parameter, `"<module_id>/<parameter name>"`."""

    @abstractmethod
    def filter_param_dict_for_optimizer(
        self, param_dict: Mapping[ParamRef, Any], optimizer: Any
    ) -> dict[ParamRef, Any]:
        """The entries that belong to the parameters of one optimizer."""

    # --- modules ---

    @abstractmethod
    def add_module(
        self,
        *,
        module_id: ModuleID,
        module_spec: SingleAgentRLModuleSpec,
        config_overrides: Mapping[str, Any] | None = None,
        new_should_module_be_updated: ShouldUpdate = None,
    ) -> None:
        """Add a module between updates.

        Args:
            module_id: its new id.
            module_spec: what to build.
            config_overrides: training settings in which it differs; they come before those that
                `algorithm_config_overrides_per_module` has for its id.
            new_should_module_be_updated: replaces the setting `policies_to_train`; may name the new module.

        Raises:
            ModuleError: the id is taken or can be none, or `module_spec` is no spec; nothing has changed.
            ConfigError: a setting is wrong, or is the same for all modules.
        """

    @abstractmethod
    def remove_module(self, module_id: ModuleID) -> None:
        """Remove a module with its optimizers, settings and coefficients; an unknown one raises `ModuleError`."""

    def replace_should_update(self, should_update: ShouldUpdate) -> None:
        """Put a rule in place of the setting `policies_to_train`: module ids, or a function of id and batch.

        Raises:
            ConfigError: it is neither of them.
            ModuleError: it names a module that does not exist.
        """
        self.should_update = checked_should_update(should_update, list(self.module))

    def restore_should_update(self, should_update: ShouldUpdate) -> None:
        """Put a rule back that was checked when it was new; modules that it names may be gone since."""
        self.should_update = should_update

    def should_module_be_updated(self, module_id: ModuleID, batch: Any = None) -> bool:
        """Whether a module trains (the setting `policies_to_train`).

        Raises:
            ModuleError: the setting is a function, and raised.
        """
        if self.should_update is None:
            return True
        if callable(self.should_update):
            try:
                return bool(self.should_update(module_id, batch))
            except UnisonError:
                raise
            except Exception as error:
                raise ModuleError(
                    f"policies_to_train('{module_id}', batch) raised {type(error).__name__}: {error}. It takes a "
                    "module's id and the batch, and returns whether the module trains."
                ) from error
        return module_id in self.should_update
