#!/usr/bin/env bash
# What launch.sh runs on each worker: worker_launch.sh WORKDIR N NAME=value (N of them) WORDS OF THE COMMAND.
# ~/cosample.log is its output, and a copy lies under WORKDIR/logs, at most five minutes behind; ~/cosample.exit is its
# exit code, once it has ended.
set -euo pipefail
workdir=$1
environment=("${@:3:$2}")
words=("${@:3+$2}")

if tmux has-session -t =cosample 2>/dev/null; then
  echo 'runs already'
  exit
fi
rm -f "$HOME/cosample.exit"
# The loop that copies the log ends with the session.
# shellcheck disable=SC2016
tmux new-session -d -s cosample -c "$HOME/cosample_jax" env "${environment[@]}" bash -c '
  log=$HOME/cosample.log copy=$1/logs/$(date -u +%Y%m%d-%H%M%S)-$(hostname).log
  shift
  keep() { gcloud storage cp --quiet "$log" "$copy" >/dev/null 2>&1; }
  while sleep 300; do keep; done &
  copying=$!
  printf "%s\n" "== $(date -u) cosample $*" >>"$log"
  code=0
  .venv/bin/cosample "$@" >>"$log" 2>&1 || code=$?
  printf "%s\n" "== $(date -u) ended with $code" >>"$log"
  kill "$copying"
  keep
  echo "$code" >"$HOME/cosample.exit"
' cosample "$workdir" "${words[@]}"
echo "started: cosample ${words[*]}"
