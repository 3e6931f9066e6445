"""A contender: a process that builds work and runs it when it is told to, over its standard input and output.

One JSON object a line. `{"do": "build", "work": {...}}` is answered by the seconds that building and the first
update took, `{"do": "run"}` by the seconds of an update (mean over as many as fill a quarter of a second), anything
that goes wrong by `{"error": ...}`. What libraries print goes to standard error.
"""

import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

Update = Callable[[], Any]
LEAST_SECONDS = 0.25


class Contender:
    """Answers requests until the input ends.

    Args:
        build: makes, from the work as a dict, the function that runs one update.
        about: says more about what was built, after the warm-up.
        warm: warms up; None runs the update twice.
    """

    def __init__(
        self,
        build: Callable[[dict[str, Any]], Update],
        about: Callable[[], dict[str, Any]] = dict,
        warm: Callable[[Update], None] | None = None,
    ) -> None:
        self._build, self._about, self._warm = build, about, warm
        self._update: Update | None = None
        self._repeats = 1

    def serve(self) -> None:
        """Read, do, answer."""
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)
        answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = self._run() if request["do"] == "run" else self._prepare(request["work"])
            except NotImplementedError as error:
                answer = {"error": str(error)}
            except Exception as error:
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")

    def _prepare(self, work: dict[str, Any]) -> dict[str, Any]:
        self._update = None
        start = time.perf_counter()
        update = self._build(work)
        built = time.perf_counter()
        update()
        first = time.perf_counter()
        if self._warm is not None:
            self._warm(update)
        update()
        again = time.perf_counter()
        update()
        self._repeats = max(1, round(LEAST_SECONDS / max(time.perf_counter() - again, 1e-6)))
        self._update = update
        return {"build_s": built - start, "first_update_s": first - built, **self._about()}

    def _run(self) -> dict[str, Any]:
        assert self._update is not None
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(self._repeats):
            self._update()
        wall = (time.perf_counter() - start) / self._repeats
        return {"seconds": wall, "cpu_seconds": (time.process_time() - cpu) / self._repeats}
