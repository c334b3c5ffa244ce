#!/usr/bin/env bash
# Copies the report with its figures and tables, the logs and the run's own records from WORKDIR to a local directory.
#
#   collect.sh [--to=DIRECTORY] [--dry-run]
#
# To runs/<last part of WORKDIR> unless told otherwise. Weights and samples stay where they are.
source "$(dirname "$0")/lib.sh"

to=''
for flag; do
  case $flag in
    --to=?*) to=${flag#*=} ;;
    *) common_flag "$flag" ;;
  esac
done
load_env
to=${to:-$CHECKOUT/runs/$(basename "$WORKDIR")}

found=0
for part in report 'done' logs; do
  if [[ -z $DRY_RUN ]] && ! gcloud storage ls "$WORKDIR/$part/" >/dev/null 2>"$TROUBLE"; then
    say "no $part in $WORKDIR: $(trouble)"
    continue
  fi
  run mkdir -p "$to/$part" # rsync makes no directory
  run gcloud storage rsync --recursive "$WORKDIR/$part" "$to/$part" || fail 1 "$WORKDIR/$part could not be copied"
  found=1
done
for file in config.json plan.json versions.json; do
  run gcloud storage cp "$WORKDIR/$file" "$to/$file" 2>"$TROUBLE" || say "no $file in $WORKDIR: $(trouble)"
done
[[ $DRY_RUN || $found == 1 ]] || fail 1 "there is nothing of a run in $WORKDIR"
[[ $DRY_RUN ]] || say "collected: $to"
