"""Builds a group, kills Learners in the middle of an update, and says how long all took. Usage: LEARNERS KILLED."""

import json
import os
import signal
import statistics
import sys
import threading
import time
from typing import Any

from unison_peer import make_config
from work import Work, spaces_of


def pid_of(learner: Any) -> int:
    return os.getpid()


def main() -> None:
    learners, killed = int(sys.argv[1]), int(sys.argv[2])
    work = Work(observation=17, action="c6", hidden=(256, 256), batch=2048, minibatch=256, passes=1, learners=learners)
    config = make_config(work, "eager")
    spaces = dict.fromkeys(work.module_ids, spaces_of(work))
    batch = {module_id: work.columns(i) for i, module_id in enumerate(work.module_ids)}
    start = time.perf_counter()
    group = config.build_learner_group(spaces=spaces)
    built = time.perf_counter()
    config.build_learner_group(spaces=spaces).shutdown()
    second = time.perf_counter() - built

    def update() -> float:
        begin = time.perf_counter()
        group.update_from_batch(batch, minibatch_size=work.minibatch)
        return time.perf_counter() - begin

    usual = statistics.median([update() for _ in range(8)][3:])
    victims = group.foreach_learner(pid_of)[-killed:]
    threading.Timer(usual / 2, lambda: [os.kill(pid, signal.SIGKILL) for pid in victims]).start()
    answer = {
        "build_s": built - start,
        "second_build_s": second,
        "update_s": usual,
        "update_with_loss_s": update(),
        "restarts": group.get_stats()["restarts"],
    }
    group.shutdown()
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
