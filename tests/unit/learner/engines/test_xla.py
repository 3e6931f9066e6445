"""How programs of XLA are run."""

import subprocess
import sys

import pytest

pytest.importorskip("jax")

_COUNT_WAITS = """
import resource
import jax, numpy as np
from unison.learner.engines.xla import _set_up_jax

_set_up_jax()
double = jax.jit(lambda x: x @ x)
numbers = np.ones((64, 64), np.float32)
np.asarray(double(numbers))
before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
for _ in range(200):
    np.asarray(double(numbers))
print(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux counts")
def test_a_small_program_runs_in_the_thread_that_calls_it() -> None:
    # Whoever has another thread run it, and waits, gives its processor away once for each call.
    out = subprocess.run([sys.executable, "-c", _COUNT_WAITS], check=True, capture_output=True, text=True, timeout=120)

    assert int(out.stdout) < 20
