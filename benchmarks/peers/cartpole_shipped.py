"""Unison: `unison train` on CartPole-v1 as a user calls it, for so many steps; one JSON line after its own words."""

import json
import sys
import tempfile
from pathlib import Path

from unison.cli.main import run

with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / "run"
    code = run(["train", "ppo", "--env", "CartPole-v1", "--stop-steps", sys.argv[1], "--seed", "0", "--out", str(out)])
    row = json.loads((out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
said = {name: value for name, value in row.items() if "engine" in name}
print(json.dumps({"learning_s": row["time_total_s"], "steps": row["num_env_steps_sampled_lifetime"], **said}))
raise SystemExit(code)
