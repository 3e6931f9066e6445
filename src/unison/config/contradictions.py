"""Settings that are fine alone and make no sense together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from unison.config.agents import module_ids, specified_ids

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
    specified, policies = specified_ids(config), module_ids(config)
    strange = [module_id for module_id in specified if module_id not in policies]
    bare = [module_id for module_id in policies if module_id not in specified]
    # Modules for which nobody acts are fine, such as a shared encoder; beside a policy without a spec, one is misspelt.
    if strange and bare:
        yield Contradiction(
            ("rl_module_spec", "policies"),
            f"rl_module_spec has specs for {strange}, but none for the policies {bare}. Give those specs too, or "
            "correct the ids.",
        )
    known = [*policies, *strange]
    trained = config.policies_to_train
    named = cast("tuple[str, ...]", trained) if isinstance(trained, tuple) else ()
    for setting, ids in (
        ("policies_to_train", named),
        ("algorithm_config_overrides_per_module", config.algorithm_config_overrides_per_module),
    ):
        if unknown := sorted(set(ids).difference(known)):
            yield Contradiction(
                (setting, "policies"),
                f"{setting} names {unknown}, but the modules are {known}. Name every module in "
                "multi_agent(policies=) or in rl_module_spec.",
            )
