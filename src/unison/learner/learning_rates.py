"""What may be a learning rate: a finite number of at least 0; any other would spoil all weights in one step."""

import math
from numbers import Real
from typing import Any

from torch import Tensor

from unison.config.schedule import Schedule
from unison.errors import OptimizerError


def is_rate(rate: Any) -> bool:
    """Whether this is a learning rate, as a number or a tensor."""
    is_number = isinstance(rate, Real) or (isinstance(rate, Tensor) and rate.numel() == 1)
    return is_number and math.isfinite(rate) and float(rate) >= 0


def check_rate(rate: Any, where: str) -> None:
    """Raise `OptimizerError` unless `rate` is a learning rate; `where` names the optimizer."""
    if not is_rate(rate):
        raise OptimizerError(f"{where}: {rate!r} is no learning rate; give a finite number of at least 0.")


def rate_schedule(rates: Any, where: str) -> Schedule:
    """The schedule of a learning rate, from a number or from points; `OptimizerError` if any of them is wrong."""
    try:
        schedule = Schedule(rates)
    except (TypeError, ValueError, OverflowError) as error:
        raise OptimizerError(
            f"{where}: {rates!r} is no learning rate and no schedule of one ({error}); give a finite number of at "
            "least 0, or points [[step, rate], ...] with growing steps."
        ) from error
    for _, rate in schedule.points:
        check_rate(rate, where)
    return schedule
