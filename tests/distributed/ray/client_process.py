"""A driver that is no node of the cluster: it trains through `ray://`, loses a Learner, and goes on."""

import os
import signal

import numpy as np
import ray

from support.learners import DISCRETE, OBS, make_columns, make_config

if __name__ == "__main__":
    config = make_config(lr=1e-2, optimizer={"name": "adam", "eps": 1e-3}).resources(num_learners=2)
    spaces = {"default_policy": (OBS, DISCRETE)}
    batches = [make_columns(40, seed) for seed in range(3)]
    with config.copy().resources(num_learners=0).build_learner_group(spaces=spaces) as alone:
        for batch in batches:
            alone.update_from_batch(batch, minibatch_size=8)
        expected = alone.get_weights()["default_policy"]
    with config.build_learner_group(spaces=spaces) as group:
        assert ray.util.client.ray.is_connected()
        group.update_from_batch(batches[0], minibatch_size=8)
        pids = group.foreach_learner(lambda learner: os.getpid())
        os.kill(pids[1], signal.SIGKILL)
        group.update_from_batch(ray.put(batches[1]), minibatch_size=8)
        group.update_from_batch(batches[2], minibatch_size=8)
        assert group.get_stats()["restarts"] == 1
        weights = group.get_weights()["default_policy"]
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-5, atol=2e-6, err_msg=name)
    assert not ray.is_initialized()
    print("the same weights")
