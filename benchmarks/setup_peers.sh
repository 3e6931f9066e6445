#!/usr/bin/env bash
# Makes the interpreters of the peers that Unison is measured beside: DIR/torch (Stable-Baselines3, TorchRL, JAX) and
# DIR/rllib. About 5 GB, some minutes.
# Usage: benchmarks/setup_peers.sh DIR
set -euo pipefail
folder=${1:?usage: setup_peers.sh DIR}

make_environment() {
  local place=$folder/$1
  shift
  [ -e "$place/.complete" ] && return
  python3 -m venv "$place"
  "$place/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
  touch "$place/.complete"
}

make_environment torch torch==2.13.0 gymnasium==1.2.2 stable-baselines3==2.9.2 torchrl==0.14.1 jax==0.10.2 optax==0.2.8
make_environment rllib torch==2.13.0 'ray[rllib]==2.60.0'
echo "ready: pass --peers $folder"
