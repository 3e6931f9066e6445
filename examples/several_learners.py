"""Two Learners on this machine's processes: the same training, and it survives a kill -9."""

import os
import signal

from unison import ALL_MODULES, PPOConfig


def pid(learner):
    """The process that a Learner lives in."""
    return os.getpid()


def main() -> dict:
    """Train, kill one Learner in the middle, train on."""
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .resources(num_learners=2)
        .training(train_batch_size=512, minibatch_size=128)
        .debugging(seed=0)
    )
    algorithm = config.build()
    algorithm.train()
    os.kill(algorithm.learner_group.foreach_learner(pid)[1], signal.SIGKILL)
    results = algorithm.train()
    print("updates:", results["learners"][ALL_MODULES]["num_updates"])
    stats = algorithm.learner_group.get_stats()
    print("restarts:", stats["restarts"], "seconds to recover:", round(stats["seconds_recover"], 1))
    algorithm.stop()
    return stats


if __name__ == "__main__":
    main()
