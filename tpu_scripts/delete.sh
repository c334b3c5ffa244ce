#!/usr/bin/env bash
# Deletes the slice and its queued resource, which holds quota until then. WORKDIR is not touched.
#
#   delete.sh [--disk] [--dry-run]
#
#   --disk  the data disk, too, with all that is on it
source "$(dirname "$0")/lib.sh"

disk=''
for flag; do
  case $flag in
    --disk) disk=yes ;;
    *) common_flag "$flag" ;;
  esac
done
load_env

if [[ -z $DRY_RUN && $(slice_state) == MISSING ]]; then
  say "there is no $NAME in $ZONE: nothing to delete"
else
  run gcloud compute tpus queued-resources delete "$NAME" "${WHERE[@]}" --force --quiet ||
    fail 1 "$NAME was not deleted"
  [[ $DRY_RUN ]] || say "$NAME is deleted"
fi
if [[ $disk ]]; then
  run gcloud compute disks delete "$NAME-data" "${WHERE[@]}" --quiet || fail 1 "the disk $NAME-data was not deleted"
fi
