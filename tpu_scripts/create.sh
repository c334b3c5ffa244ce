#!/usr/bin/env bash
# Asks for the slice of the env file as a queued resource and waits until it is ACTIVE.
#
#   create.sh [--spot | --on-demand] [--dry-run]
#
# Run again it goes on waiting for what was asked. A slice that FAILED or was SUSPENDED has to be deleted first.
source "$(dirname "$0")/lib.sh"

tier=''
for flag; do
  case $flag in
    --spot | --on-demand) tier=${flag#--} ;;
    *) common_flag "$flag" ;;
  esac
done
load_env
TIER=${tier:-$TIER}

disk=$NAME-data
make_disk() {
  local type=pd-balanced
  [[ $ACCELERATOR != v6e-* ]] || type=hyperdisk-balanced
  if [[ -z $DRY_RUN ]] && gcloud compute disks describe "$disk" "${WHERE[@]}" >/dev/null 2>&1; then
    say "$disk is there already"
    return
  fi
  run gcloud compute disks create "$disk" "${WHERE[@]}" --size="${DATA_DISK_GB}GB" --type="$type"
}

ask() {
  local flags=("${CREATE_FLAGS[@]}")
  [[ $TIER != spot ]] || flags+=(--spot)
  if [[ ${DATA_DISK_GB-} ]]; then
    make_disk || fail 1 "gcloud did not make the disk $disk"
    flags+=(--data-disk="source=projects/$PROJECT/zones/$ZONE/disks/$disk,mode=read-write")
  fi
  run gcloud compute tpus queued-resources create "$NAME" "${WHERE[@]}" --node-id="$NAME" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" "${flags[@]}" 2>"$TROUBLE" && return
  cat "$TROUBLE" >&2
  if grep -qi quota "$TROUBLE"; then
    fail 4 "$PROJECT has no quota left for $ACCELERATOR ($TIER) in $ZONE: ask for more, take another zone, or delete" \
      'what holds it; a slice that FAILED or was SUSPENDED holds quota until it is deleted'
  elif grep -qi 'exhausted\|unavailable\|internal\|capacity\|try again' "$TROUBLE"; then
    fail 4 "$NAME was not created; that may pass"
  fi
  fail 1 "gcloud refused to create $NAME"
}

if [[ $DRY_RUN ]]; then
  quoted gcloud compute tpus queued-resources describe "$NAME" "${WHERE[@]}" '--format=value(state.state)'
  ask
  exit
fi

if [[ $(slice_state) == MISSING ]]; then
  say "asking for $NAME: $ACCELERATOR, $RUNTIME, $TIER, in $ZONE"
  ask
fi
end=$((SECONDS + WAIT_HOURS * 3600)) before='' quiet=0 unknown=0
while true; do
  state=$(slice_state)
  quiet=$((quiet + 1))
  if [[ $state != "$before" || $((quiet * POLL_SECONDS)) -ge 600 ]]; then
    say "$NAME is $state"
    before=$state quiet=0
  fi
  case $state in
    ACTIVE) exit 0 ;;
    CREATING | ACCEPTED | WAITING_FOR_RESOURCES | PROVISIONING) unknown=0 ;;
    UNKNOWN)
      say "gcloud does not tell: $(trouble)"
      unknown=$((unknown + 1))
      [[ $unknown -lt 10 ]] || fail 1 'gcloud told nothing ten times'
      ;;
    FAILED) fail 3 "the request failed: $(why_failed); delete.sh makes room for another" ;;
    MISSING) fail 3 "$NAME is gone: somebody deleted it" ;;
    *) fail 3 "$NAME is $state: delete.sh makes room for another" ;;
  esac
  [[ $SECONDS -lt $end ]] ||
    fail 3 "$NAME is still $state after $WAIT_HOURS hours; it stays in the queue, delete.sh takes it out"
  sleep "$POLL_SECONDS"
done
