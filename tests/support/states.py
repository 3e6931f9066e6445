"""States of Learners as flat dicts."""

from typing import Any


def flat(state: Any) -> dict[str, Any]:
    """Weights and moments by name."""
    weights = {f"{m}/{n}": v for m, named in state["rl_module"].items() for n, v in named.items()}
    for m, slots in state["optimizer"].items():
        for slot, saved in slots.items():
            for n, moments in saved["moments"].items():
                weights |= {f"{m}/{slot}/{n}/{k}": v for k, v in moments.items()}
    return weights
