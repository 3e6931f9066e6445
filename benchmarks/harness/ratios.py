"""Comparisons of what was measured in turn."""

import statistics
from collections.abc import Iterable


def median_ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """The median of the ratios of each repeat."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
