#!/usr/bin/env bash
# Asks `cosample plan` here whether the run fits the slice, then starts the command under tmux on every worker.
#
#   launch.sh [--planned] [--dry-run]
#
#   --planned  it is known to fit: do not ask
#
# A worker where it runs already is left alone. The same command goes on from what is in WORKDIR.
source "$(dirname "$0")/lib.sh"

planned=''
for flag; do
  case $flag in
    --planned) planned=yes ;;
    *) common_flag "$flag" ;;
  esac
done
load_env

[[ $planned ]] || "$ROOM/fits.sh" ${DRY_RUN:+"$DRY_RUN"}
count_workers
on_workers bash worker_launch.sh "$WORKDIR" "${#ENVIRONMENT[@]}" "${ENVIRONMENT[@]}" \
  "${COMMAND[@]}" --workdir="$WORKDIR" || {
  state=$(slice_state)
  [[ $state == ACTIVE ]] || fail 3 "$NAME is $state: it was taken away"
  fail 1 "the command could not be started on worker ${BAD[*]}"
}
[[ $DRY_RUN ]] || say "cosample ${COMMAND[0]} runs on ${#WORKERS[@]} worker(s) of $NAME; logs.sh follows it"
