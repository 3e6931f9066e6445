"""Settings that are fine alone and make no sense together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from unison.config.algorithm_config import AlgorithmConfig


@dataclass(frozen=True)
class Contradiction:
    """Settings that contradict each other, why, and what to do."""

    settings: tuple[str, ...]
    reason: str


def common_contradictions(config: "AlgorithmConfig") -> Iterator[Contradiction]:
    """The contradictions among the settings that all algorithms share."""
    yield from _in_batches(config)
    yield from _among_modules(config)
    if config.grad_clip is None and config.grad_clip_by != "global_norm":
        yield Contradiction(
            ("grad_clip", "grad_clip_by"),
            f"grad_clip_by='{config.grad_clip_by}' has no effect without grad_clip; set grad_clip to the bound.",
        )
    if (config.observation_space is None) != (config.action_space is None):
        yield Contradiction(
            ("observation_space", "action_space"),
            "One of observation_space and action_space is given; give both, or none and an env.",
        )
    if config.vectorization == "vector_entry_point" and config.env is not None and not isinstance(config.env, str):
        yield Contradiction(
            ("vectorization", "env"),
            "vectorization='vector_entry_point' needs an env registered with Gymnasium: set env to its id.",
        )
    best_by = config.keep_best_by
    if best_by is not None and best_by.startswith("evaluation/") and config.evaluation_interval is None:
        yield Contradiction(
            ("keep_best_by", "evaluation_interval"),
            f"keep_best_by='{best_by}' is never measured: set evaluation_interval.",
        )


def _in_batches(config: "AlgorithmConfig") -> Iterator[Contradiction]:
    if config.minibatch_size is None:
        return
    if config.minibatch_size > config.train_batch_size:
        yield Contradiction(
            ("minibatch_size", "train_batch_size"),
            f"minibatch_size={config.minibatch_size} exceeds train_batch_size={config.train_batch_size}; "
            "set both in one call, the first no larger than the second.",
        )


def _among_modules(config: "AlgorithmConfig") -> Iterator[Contradiction]:
    known = set(config.policies)
    trained = config.policies_to_train
    named = cast("tuple[str, ...]", trained) if isinstance(trained, tuple) else ()
    if unknown := sorted(set(named) - known):
        yield Contradiction(
            ("policies_to_train", "policies"),
            f"policies_to_train names {unknown}, but policies has only {sorted(known)}.",
        )
    if unknown := sorted(set(config.algorithm_config_overrides_per_module) - known):
        yield Contradiction(
            ("algorithm_config_overrides_per_module", "policies"),
            f"algorithm_config_overrides_per_module names {unknown}, but policies has only {sorted(known)}.",
        )
