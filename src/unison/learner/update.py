"""One call of `update_from_batch` or `update_from_episodes`: checked, planned, run, or undone."""

import logging
import math
import time
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch

from unison.data import Columns, MultiAgentBatch
from unison.data.plan import MinibatchPlan
from unison.data.sequences import lead_of
from unison.data.tensors import TensorColumns, TensorConverter
from unison.errors import BatchError, NonFiniteError
from unison.learner.collective import gather_objects
from unison.learner.held import held_parameters
from unison.learner.metrics import NUM_MODULE_STEPS_TRAINED, MetricKey, StepMetrics, reduce_steps
from unison.learner.snapshot import Snapshot
from unison.learner.step import StepContext
from unison.types import ALL_MODULES, ModuleID, tree_items

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

NUM_ENV_STEPS_SAMPLED_LIFETIME = "num_env_steps_sampled_lifetime"
logger = logging.getLogger("unison")
T = TypeVar("T")
_NON_FINITE = "num_non_finite_steps_"


def run_update(
    learner: "TorchLearner",
    batch: Mapping[ModuleID, Mapping[str, Any]],
    env_steps: int,
    timesteps: Mapping[str, int] | None,
    minibatch_size: int | None,
    num_iters: int,
) -> dict[ModuleID, dict[str, Any]]:
    """Check, plan and take all steps of an update on the batch of those who train; else everything is as before."""
    start = time.perf_counter()
    check_timesteps(timesteps)
    columns = _tensors(learner, batch)
    plan = _plan(learner, columns, minibatch_size, num_iters)
    prepared = time.perf_counter()
    learner.optimizers.check_for_step()  # Of all modules: schedules move the rates of those without rows as well.
    for slot in learner.optimizers.active(columns):
        slot.sync()
    snapshot = Snapshot(learner, list(columns))
    lifetime = learner.counters["num_env_steps_trained_lifetime"] + env_steps
    steps_so_far = {NUM_ENV_STEPS_SAMPLED_LIFETIME: lifetime, **(timesteps or {})}
    try:
        learner.results = _train(learner, plan, columns, num_iters, steps_so_far, snapshot)
        stepped = time.perf_counter()
        learner.counters["num_updates"] += 1
        learner.counters["num_env_steps_trained_lifetime"] = lifetime
        learner.after_gradient_based_update(timesteps=steps_so_far)
    except BaseException:
        snapshot.restore()
        raise
    finally:
        learner.step = StepContext()
    _keep(learner, snapshot)
    learner.results[ALL_MODULES] |= {
        "num_env_steps_trained": float(env_steps * num_iters),
        "num_updates": float(learner.counters["num_updates"]),
        "seconds_prepare": prepared - start,
        "seconds_steps": stepped - prepared,
        **learner.engine.report(),
    }
    # Of its own: what the caller does with it changes nothing here.
    return {module_id: dict(values) for module_id, values in learner.results.items()}


def _train(
    learner: "TorchLearner",
    plan: MinibatchPlan,
    columns: Mapping[ModuleID, TensorColumns],
    num_iters: int,
    steps_so_far: Mapping[str, int],
    snapshot: Snapshot,
) -> dict[ModuleID, dict[str, Any]]:
    """The hooks before, all steps, and what modules count in the batch; gives the results."""
    has_hooks = learner.has_own("before_gradient_based_update") or learner.has_own("complete_columns")
    if has_hooks:
        snapshot.take()  # Hooks may do anything, such as set a learning rate.
    learner.before_gradient_based_update(timesteps=steps_so_far)
    if not columns:
        snapshot.take()
        return {ALL_MODULES: {}}
    columns = learner.complete_columns(columns)
    if has_hooks:
        learner.optimizers.check_for_step()
        for slot in learner.optimizers.active(columns):
            slot.sync()
    learner.engine.runs += 1
    results = _results(learner, columns, learner.engine.run(learner, plan, columns, snapshot.take), num_iters)
    _count_observations(learner, columns)
    return results


def _keep(learner: "TorchLearner", snapshot: Snapshot) -> None:
    """One of several Learners may have to undo an update when it has begun the next one; else nobody needs it more."""
    spent = snapshot
    if learner.distributed:
        spent, learner.last_snapshot = learner.last_snapshot, snapshot
    if spent is not None:
        learner.snapshot_memory = spent.memory


def valid_rows(columns: Mapping[str, Any]) -> Any:
    """The rows (time steps, for sequences) of a minibatch that count: a number, or 0-d where padding decides."""
    if Columns.LOSS_MASK in columns:
        return columns[Columns.LOSS_MASK].sum()
    return float(math.prod(lead_of(columns, is_stateful=Columns.STATE_IN in columns)))


def choose_trained(learner: "TorchLearner", given: Mapping[ModuleID, T], batch: Any) -> dict[ModuleID, T]:
    """What is given for the modules that train; a rule that is asked may draw or count, so rank 0's answer is all's."""
    able = learner._is_module_compatible_with_learner  # pyright: ignore[reportPrivateUsage]  # the API's name
    found = [m for m in learner.module if m in given and able(learner.module[m])]
    chosen = [m for m in found if learner.should_module_be_updated(m, batch)]
    if callable(learner.should_update) or learner.has_own("should_module_be_updated"):
        chosen = gather_objects(learner.collective, chosen)[0]
    return {m: given[m] for m in chosen}


def count_env_steps(learner: "TorchLearner", batch: Any, columns: Mapping[ModuleID, Mapping[str, Any]]) -> int:
    """The environment steps that a batch stands for: as it says itself, else the valid rows of its largest module."""
    if isinstance(batch, MultiAgentBatch):
        return batch.env_steps()
    counts = [0]
    for module_id, module_columns in columns.items():
        if Columns.LOSS_MASK in module_columns:
            mask = module_columns[Columns.LOSS_MASK]
            counts.append(int(mask.sum() if isinstance(mask, torch.Tensor) else np.count_nonzero(mask)))
        elif Columns.OBS in module_columns:
            counts.append(math.prod(lead_of(module_columns, is_stateful=learner.module[module_id].is_stateful())))
    return max(counts)


def _count_observations(learner: "TorchLearner", columns: Mapping[ModuleID, TensorColumns]) -> None:
    """Let modules take the batch into their running statistics: after the steps, which must see what acting saw."""
    for module_id, module_columns in columns.items():
        module = learner.module[module_id]
        module.merge_statistics(module.batch_statistics(module_columns))


def _tensors(learner: "TorchLearner", batch: Mapping[ModuleID, Mapping[str, Any]]) -> dict[ModuleID, TensorColumns]:
    """The columns of each module, checked and on the device."""
    tensors: dict[ModuleID, TensorColumns] = {}
    # In the modules' own order: the sum of their losses must not depend on how a batch came to be.
    for module_id, module in learner.module.items():
        if module_id not in batch:
            continue
        dtype = next((p.dtype for p in held_parameters(module) if p.is_floating_point()), torch.float32)
        converter = TensorConverter(
            module_id,
            observation_space=module.observation_space,
            action_space=module.action_space,
            required=learner.required_columns,
            stateful=module.is_stateful(),
            initial_state=module.get_initial_state(),
            device=learner.device,
            dtype=dtype,
        )
        tensors[module_id] = converter(batch[module_id])
    return tensors


def check_timesteps(timesteps: Any) -> None:
    """Raise `BatchError` unless it is None or holds the count that schedules go by, maybe beside others for hooks."""
    given: Mapping[str, Any] = cast("Mapping[str, Any]", timesteps) if isinstance(timesteps, Mapping) else {}
    count = given.get(NUM_ENV_STEPS_SAMPLED_LIFETIME)
    if timesteps is not None and not (isinstance(count, Real) and 0 <= float(count) < math.inf):
        raise BatchError(
            f"timesteps is {timesteps!r}; give {{'{NUM_ENV_STEPS_SAMPLED_LIFETIME}': ...}} with the environment steps "
            "sampled so far, a finite number from 0, or None to go by those trained on."
        )


def _plan(
    learner: "TorchLearner", columns: Mapping[ModuleID, TensorColumns], minibatch_size: int | None, num_iters: int
) -> MinibatchPlan:
    if not _is_count(num_iters):
        raise BatchError(f"num_iters is {num_iters!r}; give an integer of at least 1, the passes over the batch.")
    if minibatch_size is not None and not _is_count(minibatch_size):
        raise BatchError(f"minibatch_size is {minibatch_size!r}; give an integer of at least 1, or None for all rows.")
    rows: dict[ModuleID, int] = {}
    sizes: dict[ModuleID, int] = {}
    for module_id, module_columns in columns.items():
        rows[module_id], *steps = lead_of(module_columns, is_stateful=learner.module[module_id].is_stateful())
        sizes[module_id] = rows[module_id] if minibatch_size is None else max(1, minibatch_size // math.prod(steps))
    return MinibatchPlan(
        rows,
        sizes,
        num_iters=num_iters,
        accumulation_steps=learner.config.gradient_accumulation_steps,
        shuffle=learner.config.shuffle_batch_per_epoch,
    )


def _is_count(number: object) -> bool:
    """Whether it is what a setting of this kind takes: an integer from 1, of Python or numpy."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool) and bool(number >= 1)


def _results(
    learner: "TorchLearner", columns: Mapping[ModuleID, TensorColumns], steps: list[StepMetrics], num_iters: int
) -> dict[ModuleID, dict[str, Any]]:
    """The metrics of all steps and the state around them, in one copy to the host."""
    around: StepMetrics = {}
    for slot in learner.optimizers.active(columns):
        around[slot.module_id, f"{slot.name}_learning_rate"] = slot.optimizer.param_groups[0]["lr"]
        around[slot.module_id, f"{_NON_FINITE}{slot.name}"] = slot.non_finite_steps
    for module_id in columns:
        for name, coefficient in learner.coefficients[module_id].items():
            around[module_id, f"curr_{name}"] = coefficient
    if learner.precision.scaled:
        around[ALL_MODULES, "loss_scale"] = learner.precision.state["scale"]
    reductions: dict[MetricKey, Any] = learner.metrics.reductions
    results = reduce_steps(steps, around, reductions, num_iters, learner.collective)
    totals = results.setdefault(ALL_MODULES, {})
    totals[NUM_MODULE_STEPS_TRAINED] = sum(results[m].get(NUM_MODULE_STEPS_TRAINED, 0.0) for m in columns)
    totals["num_non_finite_steps"] = _count_non_finite(learner, columns, results)
    return results


def _non_finite_columns(columns: TensorColumns) -> list[str]:
    """The columns of a batch that are not finite; looked at only after an update whose gradients were not."""
    leaves = [(path, leaf) for path, leaf in tree_items(columns) if leaf.is_floating_point()]
    return [path for path, leaf in leaves if not bool(leaf.isfinite().all())]


def _count_non_finite(
    learner: "TorchLearner", columns: Mapping[ModuleID, TensorColumns], results: dict[ModuleID, dict[str, Any]]
) -> float:
    """Sum the steps with non-finite gradients, name the parameters and columns, and raise if the policy says so."""
    total = 0.0
    for slot in learner.optimizers.active(columns):
        count = results[slot.module_id].pop(f"{_NON_FINITE}{slot.name}")
        total += count
        if not count:
            continue
        results[slot.module_id]["num_non_finite_steps"] = count
        refs = slot.non_finite_refs()
        message = f"{count:.0f} step(s) of module '{slot.module_id}' had gradients that are not finite, in {refs[:5]}"
        if spoilt := _non_finite_columns(columns.get(slot.module_id, {})):
            message += f"; the batch holds NaN or infinity in {spoilt}"
        overflow = learner.precision.scaled and results[ALL_MODULES]["loss_scale"] >= 1.0
        if learner.config.nan_policy == "raise" and not overflow:
            raise NonFiniteError(
                f"{message}. The update was undone. Look for bad rewards or observations, lower the learning rate, "
                "or set training(nan_policy='skip')."
            )
        results[slot.module_id]["non_finite_parameters"] = ", ".join(refs[:5])
        if not overflow:
            logger.warning("%s. By nan_policy=%r training goes on.", message, learner.config.nan_policy)
    return total
