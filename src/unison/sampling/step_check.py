"""What a step says besides its observation: a reward that is one number, and whether the episode has ended."""

from typing import Any, Final

import numpy as np

_MOST_SHOWN: Final = 60
_NUMBERS: Final = frozenset({float, int, bool, np.float64, np.float32, np.int64, np.int32})
"""Types of rewards that need no closer look."""


def check_reward(reward: Any) -> None:
    """Require one number: Python's, numpy's, or what becomes a 0-d array of one.

    Raises:
        TypeError: it is something else, such as an array [1] or a string, which numpy would take for a number.
    """
    if type(reward) not in _NUMBERS and not is_numeric(reward, ()):
        raise TypeError(f"step() returned the reward {shown(reward)}; return one number, as by float(reward)")


def check_flags(terminated: Any, truncated: Any) -> None:
    """Require flags: truth values, Python's or numpy's, or numbers in their place.

    Raises:
        TypeError: one is something else, such as the string "False", which Python would take for true.
    """
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if type(flag) is not bool and not is_numeric(flag, ()):
            raise TypeError(f"step() returned {name}={shown(flag)}; return True or False")


def is_numeric(values: Any, shape: tuple[int, ...]) -> bool:
    """Whether these are real numbers in an array of this shape."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # ragged, or a tensor with a gradient
        return False
    return array.shape == shape and array.dtype.kind in "biuf"


def shown(values: Any) -> str:
    """What came, in one short line."""
    text = " ".join(repr(values).split())
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
