"""A driver that is on no node of the cluster: it trains by two Learners there what one here trains, and says so."""

import os

import numpy as np

from support.learners import DISCRETE, OBS, make_columns, make_config


def _pid(_: object) -> int:
    return os.getpid()


def main() -> None:
    """Train, compare, stop."""
    spaces = {"default_policy": (OBS, DISCRETE)}
    alone = make_config().build_learner(spaces=spaces)
    config = make_config().resources(num_learners=2, backend="ray")
    with config.build_learner_group(spaces=spaces) as group:
        group.set_state(alone.get_state())
        for number in range(3):
            batch = make_columns(40, number)
            for trained in (group, alone):
                trained.update_from_batch(batch, minibatch_size=8, num_iters=2)
        processes = {os.getpid(), *group.foreach_learner(_pid)}
        weights = group.get_weights()["default_policy"]
    for name, value in alone.get_module_state()["default_policy"].items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    print(f"{len(processes)} processes agree")


if __name__ == "__main__":
    main()
