#!/usr/bin/env bash
# Says how the slice, the command on its workers and the run in WORKDIR stand.
#
#   status.sh [--dry-run]
source "$(dirname "$0")/lib.sh"

for flag; do common_flag "$flag"; done
load_env

if [[ $DRY_RUN ]]; then
  quoted gcloud compute tpus queued-resources describe "$NAME" "${WHERE[@]}" '--format=value(state.state)'
  quoted gcloud compute tpus tpu-vm describe "$NAME" "${WHERE[@]}" '--format=value(state)'
  count_workers
  on_workers bash worker_state.sh
  quoted gcloud storage ls "$WORKDIR/done/"
  exit
fi

state=$(slice_state)
echo "slice    $NAME ($ACCELERATOR, $TIER, $ZONE): $state"
case $state in
  FAILED) echo "         $(why_failed)" ;;
  UNKNOWN) echo "         $(trouble)" ;;
  ACTIVE)
    count_workers
    on_workers bash worker_state.sh || echo "         worker ${BAD[*]} did not answer"
    ;;
esac
stages=$(gcloud storage ls "$WORKDIR/done/" 2>"$TROUBLE" | sed -n 's:.*/\([a-z]*\)\.json$:\1:p' | xargs) || true
echo "run      $WORKDIR: done ${stages:-nothing yet}"
