"""Imports a library, builds a group of two Learners, updates once and ends; one JSON line. Usage: LIBRARY LEARNERS."""

import json
import sys
import time
from importlib import import_module


def main() -> None:
    library, learners = sys.argv[1], int(sys.argv[2])
    del sys.argv[1:]
    start = time.perf_counter()
    peer = import_module({"unison": "unison_peer", "rllib": "rllib"}[library])
    imported = time.perf_counter()
    update = peer.build(peer.Work(batch=64, minibatch=64, passes=1, learners=learners).to_dict())
    built = time.perf_counter()
    update()
    updated = time.perf_counter()
    answer = {"import_s": imported - start, "build_s": built - imported, "first_update_s": updated - built}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
