"""Makes what the contenders' own files define, such as the work, importable for the benchmarks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from work import Work, spaces_of

WORKS = {
    "U1": Work(),
    "U2": Work(observation=17, action="c6", hidden=(256, 256), batch=4096, minibatch=256, passes=4),
    "U3": Work(batch=512, passes=2, modules=16),
}

__all__ = ["WORKS", "Work", "describe", "spaces_of"]


def describe(work: Work) -> str:
    """The work in a line."""
    hidden = ",".join(map(str, work.hidden))
    modules = f"{work.modules} modules, " if work.modules > 1 else ""
    kind = f"Discrete({work.num_actions})" if work.is_discrete else f"Box({work.num_actions})"
    return (
        f"{modules}Box({work.observation}) to {kind}, hidden {hidden}, {work.batch} rows, minibatch {work.minibatch}, "
        f"{work.passes} passes"
    )
