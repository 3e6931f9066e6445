"""Unison: `unison train` on CartPole-v1 from start to end; one JSON line after its own words.

Usage: cartpole_unison.py STEPS ENGINE VECTORIZATION as_shipped|bare
"""

import json
import sys
import tempfile
from pathlib import Path

from unison.cli.main import run

SETTINGS = """
framework: {{engine: {engine}, num_threads: 1}}
env_runners: {{num_envs_per_env_runner: 8, vectorization: {vectorization}}}
training:
  lr: [[0, 1.0e-3], [{steps}, 0.0]]
  {clip}
  gamma: 0.98
  lambda_: 0.8
  train_batch_size: 256
  minibatch_size: 256
  num_epochs: 20
  grad_clip: 0.5
checkpointing: {{checkpoint_at_end: false}}
"""


def main() -> int:
    steps, engine, vectorization, manner = sys.argv[1:5]
    with tempfile.TemporaryDirectory() as folder:
        out, settings = Path(folder) / "run", Path(folder) / "settings.yaml"
        arguments = ["train", "ppo", "--env", "CartPole-v1", "--stop-steps", steps, "--seed", "0", "--out", str(out)]
        if manner == "bare":
            text = SETTINGS.format(steps=steps, engine=engine, vectorization=vectorization, clip="clip_param: 0.2")
            settings.write_text(text, encoding="utf-8")
            arguments += ["--config", str(settings), "--eval-interval", "0", "--checkpoint-interval", "0"]
        code = run(arguments)
        last = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    row = json.loads(last)
    said = {name: value for name, value in row.items() if "engine" in name}
    print(json.dumps({"learning_s": row["time_total_s"], "steps": row["num_env_steps_sampled_lifetime"], **said}))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
