"""An Algorithm's checkpoint: the Learners' parts, the samplers' states, progress and random states."""

import logging
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unison.checkpoint import Checkpoint, capture_rng, read_checkpoint, read_manifest
from unison.checkpoint.keeper import RESULTS
from unison.config import AlgorithmConfig
from unison.config.values import from_plain, to_plain
from unison.data.multi_agent_episode import PolicyMapping
from unison.errors import CheckpointError, ConfigError
from unison.learner.saving import to_parts
from unison.registry import lookup

if TYPE_CHECKING:
    from unison.algorithms.algorithm import Algorithm

logger = logging.getLogger("unison")
_OWN_PARTS = ("algorithm", "env_runner", "evaluator", "rng")


def describe(algorithm: "Algorithm", results: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts and the metadata of a checkpoint: all that training goes on from, and the results it is judged by.

    Nothing in it changes when the algorithm trains on.
    """
    parts = to_parts(algorithm.learner_group.get_state())
    parts |= {"algorithm": algorithm.get_progress(), "rng": capture_rng(), **algorithm.get_sampling_state()}
    parts |= {name: part.get_state() for name, part in algorithm.parts.items()}
    metadata = algorithm.learner_group.get_metadata()
    metadata |= {
        "kind": "algorithm",
        "algorithm_class": f"{type(algorithm).__module__}:{type(algorithm).__qualname__}",
        "counters": metadata["counters"] | {"training_iteration": algorithm.iteration},
        RESULTS: dict(results),
    }
    if algorithm.policy_mapping_fn is not None:
        metadata["policy_mapping_fn"] = to_plain(algorithm.policy_mapping_fn)
    return parts, metadata


def read_whole(path: str | Path) -> Checkpoint:
    """Read and verify an Algorithm's checkpoint.

    Raises:
        CheckpointError: it is damaged, or not an Algorithm's.
    """
    checkpoint = read_checkpoint(path)
    _check_parts(path, checkpoint.parts)
    return checkpoint


def check_is_whole(path: str | Path) -> None:
    """Look at a checkpoint's manifest alone.

    Raises:
        CheckpointError: it is not an Algorithm's.
    """
    _check_parts(path, read_manifest(path).parts)


def _check_parts(path: str | Path, parts: Container[str]) -> None:
    missing = [name for name in _OWN_PARTS if name not in parts]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of an Algorithm: it lacks the parts {missing}.")


def check_family(path: str | Path, name: str | None, own: "type[Algorithm]") -> "type[Algorithm] | None":
    """The class of a checkpoint's algorithm, by its name; None if the name is not known.

    Raises:
        CheckpointError: neither is `own` a kind of it, nor it a kind of `own`.
    """
    try:
        found = lookup("algorithm", name or "")
    except ConfigError:
        return None  # Of a class that was never registered, or is not any more: what it holds must tell.
    if not issubclass(found, own) and not issubclass(own, found):
        raise CheckpointError(
            f"{path} is a checkpoint of {found.__name__}, and {own.__name__} can't go on from it. {found.__name__}."
            "from_checkpoint(path) can; learner_group.load_module_state() takes over weights alone."
        )
    return found


def read_mapping(path: str | Path, metadata: Mapping[str, Any], present: PolicyMapping | None) -> PolicyMapping | None:
    """What took the place of the setting `policy_mapping_fn` (None: nothing); `present` where it can't be stored."""
    try:
        return from_plain(metadata.get("policy_mapping_fn"))
    except ConfigError as error:
        logger.warning("%s: the policy_mapping_fn was not saved: %s Give it by set_policy_mapping_fn().", path, error)
        return present


def read_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> AlgorithmConfig:
    """The config that a checkpoint was trained with.

    Raises:
        CheckpointError: the checkpoint has none.
    """
    metadata = read_manifest(path).metadata
    if "config" not in metadata:
        raise CheckpointError(f"{path} holds no config, so it is not a checkpoint of an Algorithm or a Learner.")
    return AlgorithmConfig.from_dict(metadata["config"], overrides=overrides)
