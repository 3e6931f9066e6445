"""LearnerGroup: N Learners as one."""

import secrets
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

from unison.checkpoint import write_checkpoint
from unison.config import AlgorithmConfig, checked_should_update
from unison.errors import LearnerGroupError
from unison.learner.learner import ModuleSpec, Results, ShouldUpdate
from unison.learner.learner_state import ModuleChoice, SettingsSource
from unison.learner.loading import LoadOptions, load
from unison.learner.saving import GROUP, to_parts, without_group
from unison.learner.setup import check_addition, check_exists
from unison.learner.state import COMPONENTS, chosen_part
from unison.learner_group.inline import InlineTransport
from unison.learner_group.module_checkpoints import gather_module_states
from unison.learner_group.transport import Transport
from unison.learner_group.transports import start_transport
from unison.learner_group.updates import UpdatePipeline, checked_counts
from unison.learner_group.weights import Weights
from unison.learner_group.worker import LearnerFactory
from unison.modules import MultiAgentRLModule, RLModule, SingleAgentRLModuleSpec
from unison.registry import register
from unison.types import ModuleID


@register("learner_group", "default")
class LearnerGroup:
    """Runs N Learners that behave as one: in this process, on this machine, or on a cluster.

    Each Learner sees the whole batch and trains its share of every minibatch; their gradients are summed
    before each step, so any number of Learners gives the training of one. Use it as a context manager, or
    call `shutdown()`.

    Args:
        config: the settings; `resources(num_learners=...)` says how many Learners and where.
        module_spec: the modules, else those of the config.
    """

    components: ClassVar[tuple[str, ...]] = (*COMPONENTS, GROUP)

    def __init__(self, *, config: AlgorithmConfig, module_spec: ModuleSpec | None = None) -> None:
        if config.seed is None:
            # Ranks that drew seeds of their own would begin with other weights and shuffle in another order.
            config = config.copy().debugging(seed=secrets.randbits(31))
        self.config = config if config.is_frozen else config.copy().freeze()
        self._factory = LearnerFactory(self.config, module_spec, self.config.policies_to_train)
        self._transport: Transport = start_transport(self.config, self.config.num_learners, self._factory)
        self._updates = UpdatePipeline(self._transport, self.config)
        self._outside_changes = 0
        self._finalizer = weakref.finalize(self, self._transport.stop)

    # --- updating ---

    def update_from_batch(
        self,
        batch: Any,
        *,
        timesteps: Mapping[str, int] | None = None,
        async_update: bool = False,
        return_state: bool = False,
        minibatch_size: int | None = None,
        num_iters: int = 1,
    ) -> Any:
        """Update on a batch; sizes are global, over all Learners.

        Args:
            batch: a MultiAgentBatch, a SampleBatch or a mapping of columns.
            timesteps: lifetime counts that schedules go by.
            async_update: hand the update in and return the list of results that have become ready.
                Where the queue is full, the setting `queue_policy` decides: wait, or drop this update.
            return_state: add the weights after the update, under "_rl_module_state_after_update".
            minibatch_size: rows of each module per step; None: all of them.
            num_iters: passes over the batch.

        Returns:
            The results, or with `async_update` a list of them, oldest first.

        Raises:
            BatchError: the batch can't be trained on; nothing has changed.
            LearnerGroupError: a Learner died too often, hung or raised; nothing has changed.
        """
        arguments = {"timesteps": timesteps, "minibatch_size": minibatch_size, "num_iters": num_iters}
        return self._update("batch", batch, arguments, async_update=async_update, return_state=return_state)

    def update_from_episodes(
        self,
        episodes: Sequence[Any],
        *,
        timesteps: Mapping[str, int] | None = None,
        async_update: bool = False,
        return_state: bool = False,
        minibatch_size: int | None = None,
        num_iters: int = 1,
    ) -> Any:
        """As `update_from_batch`, on the batch that the learner connectors make of episodes."""
        arguments = {"timesteps": timesteps, "minibatch_size": minibatch_size, "num_iters": num_iters}
        return self._update("episodes", episodes, arguments, async_update=async_update, return_state=return_state)

    def get_results(self, block: bool = False) -> list[Results]:
        """The results of async updates that have finished since the last call; `block` waits for at least one."""
        return self._running.get_results(block=block)

    def drain(self) -> list[Results]:
        """Wait for all async updates; the results that nobody has fetched yet."""
        return self._running.drain()

    def _update(
        self, source: str, data: Any, arguments: dict[str, Any], *, async_update: bool, return_state: bool
    ) -> Any:
        update = self._running.hand_in if async_update else self._running.run
        return update(source, data, arguments, return_state=return_state)

    # --- weights and state ---

    def get_weights(self, module_ids: Collection[ModuleID] | None = None, inference_only: bool = False) -> Weights:
        """The weights of some or all modules, with their version."""
        state = self._ask_one("get_module_state", module_ids=module_ids, inference_only=inference_only)
        return Weights(state, version=self.weights_version)

    def set_weights(self, weights: Mapping[ModuleID, Any]) -> None:
        """Give all Learners these weights; a misfit raises `StateError` and changes nothing."""
        with self._running.turns:
            self._change_all("set_module_state", state=dict(weights))
            self._outside_changes += 1

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        module_ids: Collection[ModuleID] | None = None,
        inference_only: bool = False,
    ) -> dict[str, Any]:
        """All or parts of the state of a Learner (they are all alike), and the counts of the group's updates."""
        of_group = components is None and module_ids is None and not inference_only
        own = [name for name in self.components if name != GROUP] if of_group else components
        with self._running.turns:
            state = self._ask_one("get_state", components=own, module_ids=module_ids, inference_only=inference_only)
            return {**state, GROUP: dict(vars(self._updates.counts))} if of_group else state

    def check_state(self, state: Mapping[str, Any], *, shared: Mapping[ModuleID, Any] | None = None) -> None:
        """Raise what `set_state` would, and change nothing; see Learner.check_state."""
        if GROUP in state:
            checked_counts(state[GROUP])
        self._ask_one("check_state", state=without_group(state), shared=shared)

    def set_state(self, state: Mapping[str, Any], *, module_ids: ModuleChoice = None) -> None:
        """Give all Learners this state; a misfit raises `StateError` and changes nothing; see Learner.set_state."""
        chosen = chosen_part(state, module_ids)
        with self._running.turns:
            self._updates.finish_all()
            counts = checked_counts(chosen.get(GROUP, dict(vars(self._updates.counts))))
            version = self.weights_version
            self._change_all("set_state", state=without_group(chosen))
            counters = chosen.get("learner", {}).get("counters", {})
            self._updates.count_on(counts, int(counters.get("num_updates", self._updates.num_updates)))
            self._outside_changes = version + 1 - counts.trained  # The version grows, whatever the counts were.

    def save_state(self, path: str | Path) -> None:
        """Write the state of a Learner to a checkpoint directory."""
        write_checkpoint(path, to_parts(self.get_state()), self.get_metadata())

    def get_metadata(self) -> dict[str, Any]:
        """What the manifest of a checkpoint of these Learners says."""
        return self._ask_one("_get_metadata")

    def load_state(
        self,
        path: str | Path,
        *,
        settings: SettingsSource = "checkpoint",
        module_ids: ModuleChoice = None,
        components: Collection[str] | None = None,
        module_classes: Mapping[ModuleID, type[RLModule]] | None = None,
    ) -> dict[str, tuple[Any, Any]]:
        """Take over a checkpoint, also one that was saved with another number of Learners; see Learner.load_state."""
        return load(self, path, LoadOptions(settings, module_ids, components, module_classes))

    def use_own_settings(self, module_ids: Collection[ModuleID] | None = None) -> None:
        """Let all Learners go by the config's rates and settings where a loaded state brought others."""
        self._change_all("use_own_settings", module_ids=module_ids)

    def load_module_state(
        self,
        *,
        marl_module_ckpt_dir: str | Path | None = None,
        modules_to_load: Collection[ModuleID] | None = None,
        rl_module_ckpt_dirs: Mapping[ModuleID, str | Path] | None = None,
    ) -> None:
        """Weights of some or all modules from checkpoints.

        Args:
            marl_module_ckpt_dir: a checkpoint of many modules (of a module, a Learner, a group or an algorithm).
            modules_to_load: which of them; None: all.
            rl_module_ckpt_dirs: checkpoints of single modules, by the id of the module that takes the weights.

        Raises:
            ModuleError: a module is named in both places, or is unknown.
        """
        self.set_weights(gather_module_states(marl_module_ckpt_dir, modules_to_load, rl_module_ckpt_dirs or {}))

    # --- modules and Learners ---

    def add_module(
        self,
        *,
        module_id: ModuleID,
        module_spec: SingleAgentRLModuleSpec,
        config_overrides: Mapping[str, Any] | None = None,
        new_should_module_be_updated: ShouldUpdate = None,
    ) -> None:
        """Add a module to all Learners, with the same first weights, or to none."""
        known = self.get_module_ids()
        check_addition(module_id, module_spec, known)
        rule = checked_should_update(new_should_module_be_updated, [*known, module_id])
        arguments = {"module_id": module_id, "module_spec": module_spec, "config_overrides": config_overrides}
        with self._running.turns:
            self._factory.added[module_id] = arguments  # Before the call: a rank that is lost in it comes back with it.
            try:
                self._running.call("ensure_module", arguments)
                if len(self) > 1:
                    state = self._ask_one("get_module_state", module_ids=[module_id])
                    self._change_all("set_module_state", state=state)
                if rule is not None:
                    self.replace_should_update(rule)
            except BaseException:
                del self._factory.added[module_id]
                self._updates.undo("drop_module", module_id)
                raise
            self._outside_changes += 1

    def remove_module(self, module_id: ModuleID) -> None:
        """Remove a module from all Learners; an unknown one raises `ModuleError`."""
        check_exists(module_id, self.get_module_ids())
        with self._running.turns:
            self._running.call("drop_module", module_id)
            if self._factory.added.pop(module_id, None) is None:
                self._factory.removed[module_id] = None
            self._outside_changes += 1

    def replace_should_update(self, should_update: ShouldUpdate) -> None:
        """Put a rule in place of the setting `policies_to_train`; see Learner.replace_should_update."""
        with self._running.turns:
            self._put_rule("replace_should_update", checked_should_update(should_update, self.get_module_ids()))

    def restore_should_update(self, should_update: ShouldUpdate) -> None:
        """Put a rule back that was checked when it was new; see Learner.restore_should_update."""
        with self._running.turns:
            self._put_rule("restore_should_update", should_update)

    def _put_rule(self, method: str, rule: ShouldUpdate) -> None:
        before, self._factory.should_update = self._factory.should_update, rule
        try:
            self._change_all(method, should_update=rule)
        except BaseException:
            self._factory.should_update = before
            self._updates.undo("change", self._updates.num_changes, "restore_should_update", {"should_update": before})
            raise

    @property
    def should_update(self) -> ShouldUpdate:
        """Which modules train: the setting `policies_to_train`, or what took its place."""
        return self._factory.should_update

    def get_module_ids(self) -> list[ModuleID]:
        """The ids of the modules."""
        return self._running.call_one("get_module_ids")

    def foreach_learner(self, func: Callable[..., Any], **kwargs: Any) -> list[Any]:
        """`[func(learner, **kwargs), ...]`, by rank."""
        with self._running.turns:
            answers = self._updates.change("apply", func, kwargs)
            self._outside_changes += 1  # It may have changed weights, or even trained.
            self._updates.num_updates = answers[0][1]
        return [answer for answer, _ in answers]

    def resize(self, num_learners: int) -> None:
        """Go on with another number of Learners; the state is kept. Where that fails, those that were there go on."""
        if num_learners < 0:
            raise LearnerGroupError(f"num_learners is {num_learners}; give 0 (in this process) or more.")
        with self._running.turns:
            state = self._ask_one("get_state")
            transport = start_transport(self.config, num_learners, self._factory)
            try:
                transport.gather(transport.call("change", 0, "set_state", {"state": state}))
            except BaseException:
                transport.stop()
                raise
            old, self._transport = self._transport, transport
            self._updates.move_to(transport)
            self._outside_changes += 1
            self._finalizer.detach()
            self._finalizer = weakref.finalize(self, transport.stop)
            old.stop()

    def get_stats(self) -> dict[str, float]:
        """Counts of updates (submitted = trained + dropped + in flight + failed), restarts, seconds by phase."""
        return self._updates.stats()

    @property
    def weights_version(self) -> int:
        """Grows with every update, and with every change of the weights from outside."""
        return self._updates.counts.trained + self._outside_changes

    @property
    def local_module(self) -> MultiAgentRLModule | None:
        """The modules themselves, where the Learner lives in this process; else None."""
        return self._transport.hosted.learner.module if isinstance(self._transport, InlineTransport) else None

    @property
    def is_local(self) -> bool:
        """Whether the Learner lives in this process."""
        return isinstance(self._transport, InlineTransport)

    @property
    def is_remote(self) -> bool:
        """Whether the Learners live in processes of their own."""
        return not self.is_local

    def __len__(self) -> int:
        """The number of Learners; 1 also where it lives in this process."""
        return self._transport.num_workers

    def shutdown(self) -> None:
        """Stop all Learners; leaves no process behind. A second call does nothing."""
        self._finalizer()

    def __reduce__(self) -> NoReturn:
        raise LearnerGroupError("A LearnerGroup can't be pickled or copied; hand on its config and its get_state().")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    @property
    def _running(self) -> UpdatePipeline:
        if not self._finalizer.alive:
            raise LearnerGroupError("This LearnerGroup was shut down; build a new one.")
        return self._updates

    def _ask_one(self, method: str, **arguments: Any) -> Any:
        return self._running.call_one("ask", method, arguments)

    def _change_all(self, method: str, **arguments: Any) -> None:
        self._running.change("change", method, arguments)
