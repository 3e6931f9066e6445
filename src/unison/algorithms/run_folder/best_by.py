"""The result that the best checkpoint is chosen by: whether there is one of that name, as soon as it can be known."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from unison.algorithms.run_folder.rows import ITERATION, SECONDS, STEPS, flatten
from unison.errors import ConfigError
from unison.sampling.metrics import summarize
from unison.suggest import did_you_mean
from unison.types import ALL_MODULES, ModuleID

_EVALUATION: Final[Mapping[str, Any]] = {
    **summarize([]),
    "num_episodes": 0,
    "num_env_steps_sampled": 0,
    "agent_return_mean": {},
    "module_return_mean": {},
}
_EXPECTED: Final[Mapping[str, Any]] = {
    ITERATION: 0,
    STEPS: 0,
    SECONDS: 0,
    "env_steps_per_second": 0,
    "timers": {},
    "env_runners": {},
    "learners": {},
    "evaluation": _EVALUATION,
    "confirmation": _EVALUATION,
}
"""The results that every iteration may have; an empty dict stands for what only its first results tell."""


def is_measured(keep_best_by: str, results: Mapping[str, Any], module_ids: Sequence[ModuleID] = ()) -> bool:
    """Whether there is such a result; False while only later results can tell.

    Args:
        keep_best_by: the path of a result.
        results: of an iteration; empty before the first.
        module_ids: the modules that train, now or later; none before the first.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    known = {**_EXPECTED, **results}
    if module_ids:  # One that was not trained this time may be the next.
        untrained: dict[str, Any] = {module_id: {} for module_id in (*module_ids, ALL_MODULES)}
        known["learners"] = {**untrained, **known["learners"]}
    here: Any = known
    for key in keep_best_by.split("/"):
        if not isinstance(here, Mapping) or key not in here:
            break
        here = cast("Mapping[str, Any]", here)[key]
        if here == {}:
            return False
    else:
        if not isinstance(here, Mapping):
            return True
    raise ConfigError(
        f"keep_best_by='{keep_best_by}' is no result of training. {did_you_mean(keep_best_by, flatten(known))}"
    )
