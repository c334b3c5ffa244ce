#!/usr/bin/env bash
# Follows the log of the command.
#
#   logs.sh [--worker=N | --worker=all] [--lines=N] [--no-follow] [--dry-run]
#
# Worker 0 and 50 lines unless told otherwise.
source "$(dirname "$0")/lib.sh"

worker=0 lines=50 follow=-F
for flag; do
  case $flag in
    --worker=*) worker=${flag#*=} ;;
    --lines=*) lines=${flag#*=} ;;
    --no-follow) follow='' ;;
    *) common_flag "$flag" ;;
  esac
done
[[ $worker =~ ^([0-9]+|all)$ ]] || fail 2 "--worker=$worker: a number or all"
[[ $lines =~ ^[0-9]+$ ]] || fail 2 "--lines=$lines: a number"
load_env

tail=(tail -n "$lines" ${follow:+"$follow"} cosample.log)
if [[ $worker != all || $DRY_RUN ]]; then
  on_worker "$worker" "${tail[@]}"
  exit
fi
count_workers
for worker in "${WORKERS[@]}"; do
  on_worker "$worker" "${tail[@]}" </dev/null | sed -u "s/^/[worker $worker] /" &
done
wait
