"""Numbers as people read them."""

import math
from collections.abc import Mapping
from typing import Any, cast

from unison.types import ALL_MODULES

_FIRST = ("policy_loss", "vf_loss", "entropy", "mean_kl_loss")
_MOST = 5


def duration(seconds: float) -> str:
    """75 as 1:15, 3675 as 1:01:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number(value: float | None) -> str:
    """Three or more digits that count; a dash for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def size(count: float) -> str:
    """Bytes as kB and MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def losses(learners: Mapping[str, Any]) -> dict[str, str]:
    """One line of losses for each module, of an iteration's Learner results."""
    return {m: _losses(cast("Mapping[str, Any]", r)) for m, r in learners.items() if m != ALL_MODULES}


def _losses(results: Mapping[str, Any]) -> str:
    others = [name for name in results if name.endswith("_loss") and name not in (*_FIRST, "total_loss")]
    names = [name for name in (*_FIRST, *others) if name in results] or ["total_loss"]
    return "  ".join(f"{_short(name)} {number(results[name])}" for name in names[:_MOST] if name in results)


def _short(name: str) -> str:
    return {"vf_loss": "value", "mean_kl_loss": "kl"}.get(name, name.removesuffix("_loss"))
