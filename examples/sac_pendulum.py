"""SAC on Pendulum-v1, from a replay that is saved with the checkpoint.

    python examples/sac_pendulum.py [--steps 6000]

The settings are those that `unison train sac --env Pendulum-v1` takes.
"""

import argparse
from tempfile import TemporaryDirectory

from unison import SAC, SACConfig


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    options = parser.parse_args(arguments)
    config = (
        SACConfig()
        .environment("Pendulum-v1")
        .framework(num_threads=1)
        .training(lr=1e-3, warm_up_steps=500, steps_per_iteration=500)
        .checkpointing(save_replay=True)
        .evaluation(evaluation_duration=10, evaluation_num_envs=10)
        .debugging(seed=0)
    )
    algorithm = config.build()
    with TemporaryDirectory() as folder:
        while algorithm.num_env_steps_sampled_lifetime < options.steps:
            algorithm.train()
            steps, held = algorithm.num_env_steps_sampled_lifetime, len(algorithm.replay)
            print(f"{steps} steps, replay of {held}: {algorithm.evaluate()['episode_return_mean']:.0f}")
        algorithm.save_state(folder)
        algorithm.stop()
        resumed = SAC.from_checkpoint(folder)
        print(f"resumed with {len(resumed.replay)} steps in the replay")
        resumed.stop()


if __name__ == "__main__":
    main()
