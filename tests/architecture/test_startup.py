"""What importing and building does not load, for it would take longer than all the rest."""

import subprocess
import sys

BUILD = """
import sys
from unison import PPOConfig
learner = PPOConfig().environment("CartPole-v1").framework(engine="eager").build_learner()
print(sorted({"torch._dynamo", "jax", "ray", "matplotlib"} & set(sys.modules)))
"""


def test_a_learner_is_built_without_compilers_and_extras() -> None:
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
