"""A replay buffer of one contender: the work of `replay.py`. One JSON line.

Usage: replay_work.py unison | sb3 | torchrl uniform | prioritized ROWS, with the interpreter that has it

Rows of HalfCheetah-v5: 17 observed numbers, 6 of an action. The buffer is filled with ROWS rows in chunks of 100, then
single rows are added, and batches of 256 rows are drawn; with priorities, each batch gets new ones.
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
OBS, ACT, CHUNK, BATCH = 17, 6, 100, 256
kind, prioritized, capacity = sys.argv[1], sys.argv[2] == "prioritized", int(sys.argv[3])
rng = np.random.default_rng(0)
Work = Callable[[], Any]


def rows(count: int) -> dict[str, Any]:
    """As environments and policies give them."""
    return {
        "obs": rng.normal(size=(count + 1, OBS)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (count, ACT)).astype(np.float32),
        "rewards": rng.normal(size=count),
    }


def unison() -> tuple[Work, Work, Work]:
    from unison import SingleAgentEpisode
    from unison.data.replay import Prioritization, ReplayBuffer

    replay = ReplayBuffer(capacity, prioritization=Prioritization() if prioritized else None, seed=0)

    def add(given: dict[str, Any]) -> Work:
        episode = SingleAgentEpisode(
            observations=given["obs"], actions=given["actions"], rewards=given["rewards"], truncated=True
        )
        return lambda: replay.add([episode])

    def sample() -> None:
        draws = replay.sample(BATCH)
        if prioritized:
            replay.update_priorities(draws.numbers, {"default_policy": errors})

    return add(rows(CHUNK)), add(rows(1)), sample


def sb3() -> tuple[Work, Work, Work]:
    import gymnasium as gym
    from stable_baselines3.common.buffers import ReplayBuffer

    if prioritized:
        raise SystemExit("SB3 has no prioritized replay buffer")
    spaces = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32), gym.spaces.Box(-1, 1, (ACT,), np.float32)

    def make(environments: int) -> tuple[ReplayBuffer, Work]:
        replay = ReplayBuffer(capacity, *spaces, device="cpu", n_envs=environments)
        given, infos = rows(environments), [{} for _ in range(environments)]
        done = np.zeros(environments, bool)
        arguments = given["obs"][:-1], given["obs"][1:], given["actions"], given["rewards"], done, infos
        return replay, lambda: replay.add(*arguments)

    # One row at a time it is another buffer: its shape goes by the number of environments.
    replay, add_chunk = make(CHUNK)
    return add_chunk, make(1)[1], lambda: replay.sample(BATCH)


def torchrl() -> tuple[Work, Work, Work]:
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictPrioritizedReplayBuffer, TensorDictReplayBuffer

    storage = LazyTensorStorage(capacity)
    if prioritized:
        replay = TensorDictPrioritizedReplayBuffer(alpha=0.6, beta=0.4, storage=storage, batch_size=BATCH)
    else:
        replay = TensorDictReplayBuffer(storage=storage, batch_size=BATCH)

    def add(given: dict[str, Any]) -> Work:
        count = len(given["rewards"])

        def work() -> None:
            data = {
                "observation": torch.as_tensor(given["obs"][:-1]),
                "action": torch.as_tensor(given["actions"]),
                "next": {
                    "observation": torch.as_tensor(given["obs"][1:]),
                    "reward": torch.as_tensor(given["rewards"], dtype=torch.float32),
                    "terminated": torch.zeros(count, dtype=torch.bool),
                },
            }
            replay.extend(TensorDict(data, [count]))

        return work

    def sample() -> None:
        batch = replay.sample()
        if prioritized:
            batch["td_error"] = errors
            replay.update_tensordict_priority(batch)

    return add(rows(CHUNK)), add(rows(1)), sample


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def seconds_of(work: Work, seconds: float = 0.5) -> float:
    """The median time of a call."""
    for _ in range(10):
        work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(10):
            work()
        times.append((time.perf_counter() - start) / 10)
    return statistics.median(times)


errors = torch.rand(BATCH)
add_chunk, add_row, sample = {"unison": unison, "sb3": sb3, "torchrl": torchrl}[kind]()
add_chunk()
before = resident_bytes()
for _ in range(capacity // CHUNK):
    add_chunk()
held = resident_bytes() - before
results = {
    "rows_added_in_chunks": CHUNK / seconds_of(add_chunk),
    "rows_sampled": BATCH / seconds_of(sample, 1.0),
    "rows_added_singly": 1 / seconds_of(add_row),
    "bytes_per_row": held / capacity,
}
print(json.dumps(results))
