#!/usr/bin/env bash
# What setup.sh runs last on each worker: worker_doctor.sh FLAGS. An accelerator that the command holds is left to it.
set -euo pipefail
if tmux has-session -t =cosample 2>/dev/null; then
  echo 'the command runs here: not looked at'
  exit
fi
cd "$HOME/cosample_jax"
exec .venv/bin/cosample doctor "$@"
