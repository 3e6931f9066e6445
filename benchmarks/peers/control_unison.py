"""Unison: SAC on a task of continuous control, with evaluations on the way; one JSON line at the end.

Usage: control_unison.py TASK SEED STEPS WARM_UP INTERVAL EPISODES [ENGINE]
"""

import json
import sys
import time

from unison import SACConfig

name, seed, steps, warm_up, interval, episodes = sys.argv[1], *map(int, sys.argv[2:7])
config = (
    SACConfig()
    .environment(name)
    .framework(engine=sys.argv[7] if len(sys.argv) > 7 else "auto", num_threads=1)
    .training(replay_capacity=steps, warm_up_steps=warm_up, steps_per_iteration=interval)
    .evaluation(evaluation_num_envs=1, evaluation_duration=episodes)
    .debugging(seed=seed)
)
algorithm = config.build()
curve = {"task": name, "seed": seed, "steps": [], "returns": [], "cpu_seconds": []}
spent = 0.0
while algorithm.num_env_steps_sampled_lifetime < steps:
    start = time.process_time()
    results = algorithm.train()
    spent += time.process_time() - start
    curve["steps"].append(algorithm.num_env_steps_sampled_lifetime)
    curve["returns"].append(algorithm.evaluate()["episode_return_mean"])
    curve["cpu_seconds"].append(spent)
    learners = results["learners"]
    engine = learners.get("__all_modules__", {}).get("engine")
    print(curve["steps"][-1], curve["returns"][-1], round(spent), engine, file=sys.stderr, flush=True)
algorithm.stop()
print(json.dumps({**curve, "engine": engine}))
