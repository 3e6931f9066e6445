"""One result from those of all ranks."""

from collections.abc import Sequence
from typing import Any

from unison.learner.metrics import NUM_MODULE_STEPS_TRAINED
from unison.types import ModuleID

Results = dict[ModuleID, dict[str, Any]]


def merge_results(ranks: Sequence[Results]) -> Results:
    """Means weighted by each rank's rows, the sum of the rows, and one value of what all ranks share.

    Counts (`num_...`) other than the rows are alike on every rank, and so are texts.
    """
    if len(ranks) == 1:
        return ranks[0]
    merged: Results = {}
    for module_id in dict.fromkeys(m for rank in ranks for m in rank):
        parts = [rank[module_id] for rank in ranks if module_id in rank]
        rows = [part.get(NUM_MODULE_STEPS_TRAINED, 0.0) for part in parts]
        names = dict.fromkeys(name for part in parts for name in part)
        merged[module_id] = {name: _merge(name, parts, rows) for name in names}
    return merged


def _merge(name: str, parts: Sequence[dict[str, Any]], rows: Sequence[float]) -> Any:
    known = [(part[name], n) for part, n in zip(parts, rows, strict=True) if name in part]
    values = [value for value, _ in known]
    if name == NUM_MODULE_STEPS_TRAINED:
        return sum(values)
    if isinstance(values[0], str) or name.startswith("num_") or all(value == values[0] for value in values):
        return values[0]
    total = sum(n for _, n in known)
    if not total:
        return sum(values) / len(values)
    return sum(value * n for value, n in known) / total
