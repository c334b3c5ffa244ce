#!/usr/bin/env bash
# What watch.sh and status.sh ask a worker: `running`, `ended with CODE` or `idle`, and the last line of the log.
if tmux has-session -t =cosample 2>/dev/null; then
  echo running
elif [[ -f $HOME/cosample.exit ]]; then
  echo "ended with $(cat "$HOME/cosample.exit")"
else
  echo idle
fi
tail -n 1 "$HOME/cosample.log" 2>/dev/null || true
