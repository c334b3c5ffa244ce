#!/usr/bin/env bash
# Keeps the run going until it is done, whatever happens to the slice: asks whether it fits, creates, sets up, launches,
# looks; a slice that was taken away, failed or does not answer is deleted and made again, and the same command goes on.
#
#   watch.sh [--delete] [--dry-run]
#
#   --delete  the slice is deleted at the end, also when the watch gives up; otherwise it stays, and costs
#
# It ends when the DONE marker of the last stage is in WORKDIR (done/report.json). It gives up (exit code not 0) after
# MAX_CREATES slices, on a mistake that making another slice does not cure, and when gcloud tells nothing. It can be
# ended and started at any moment: it finds what is there. It runs here, in a terminal that stays (tmux).
source "$(dirname "$0")/lib.sh"

delete=''
for flag; do
  case $flag in
    --delete) delete=yes ;;
    *) common_flag "$flag" ;;
  esac
done
load_env

if [[ $DRY_RUN ]]; then
  echo '# is it done already? and does it fit?'
  quoted gcloud storage ls "$WORKDIR/done/$(last_stage).json"
  "$ROOM/fits.sh" --dry-run
  echo '# create.sh'
  "$ROOM/create.sh" --dry-run
  echo '# setup.sh'
  "$ROOM/setup.sh" --dry-run
  echo '# launch.sh'
  "$ROOM/launch.sh" --planned --dry-run
  echo "# every $POLL_SECONDS s, until it is done"
  "$ROOM/status.sh" --dry-run
  echo '# only after a slice was taken away, before create.sh again, and with --delete at the end'
  "$ROOM/delete.sh" --dry-run
  exit
fi

finish() { # finish CODE WORDS
  say "${@:2}"
  if [[ $delete ]]; then
    "$ROOM/delete.sh" || say "$NAME could not be deleted, and costs: delete.sh"
  else
    say "$NAME was not deleted: if it is there it costs, delete.sh ends that"
  fi
  exit "$1"
}

creates=0 backoff=$BACKOFF_SECONDS relaunches=0 silent=0 since_line=600 started=''

make_slice() {
  [[ $creates -lt $MAX_CREATES ]] || finish 3 "giving up after $creates slices (MAX_CREATES)"
  if [[ $creates -gt 0 ]]; then
    say "waiting $backoff s before the next slice"
    sleep "$backoff"
    backoff=$((backoff * 2 < 3600 ? backoff * 2 : 3600))
  fi
  creates=$((creates + 1)) relaunches=0 started=''
  say "slice $creates of at most $MAX_CREATES"
  wait_for_slice
}

wait_for_slice() { # and ask for it first, unless that was done
  local code=0
  "$ROOM/create.sh" || code=$?
  case $code in
    0 | 4) ;;
    3)
      case $(slice_state) in
        WAITING_FOR_RESOURCES | ACCEPTED | CREATING | PROVISIONING) finish 3 "no capacity in $WAIT_HOURS hours" ;;
      esac
      ;;
    *) finish "$code" 'giving up: asking again would not cure this' ;;
  esac
}

remove_slice() {
  started=''
  say "deleting $NAME"
  if "$ROOM/delete.sh"; then
    silent=0
  else
    gone_silent "$NAME could not be deleted"
  fi
}

gone_silent() { # what may pass: it is counted, and ends the watch only when it goes on
  silent=$((silent + 1))
  say "$* ($silent of 10)"
  [[ $silent -lt 10 ]] || finish 1 'giving up: ten times in a row'
  sleep "$POLL_SECONDS"
}

start() {
  local code=0
  "$ROOM/setup.sh" && "$ROOM/launch.sh" --planned || code=$?
  case $code in
    0) backoff=$BACKOFF_SECONDS silent=0 since_line=600 started=yes ;;
    3) remove_slice ;;
    *) finish "$code" 'giving up: another slice would not cure this' ;;
  esac
}

start_again() { # start_again WHY
  relaunches=$((relaunches + 1))
  [[ $relaunches -le $MAX_RELAUNCHES ]] || finish 1 "$1, and it was launched again $MAX_RELAUNCHES times on this slice"
  say "$1: launching it again ($relaunches of $MAX_RELAUNCHES)"
  start
}

look() { # at the command, on worker 0
  local answer last
  if ! answer=$(on_worker 0 bash worker_state.sh 2>"$TROUBLE" </dev/null); then
    if [[ -z $started ]]; then # nothing is there yet to answer
      start
    elif [[ $silent -ge 4 ]]; then
      say "worker 0 has not answered five times: $(trouble)"
      silent=0
      remove_slice
    else
      gone_silent "worker 0 does not answer: $(trouble)"
    fi
    return
  fi
  silent=0 last=${answer#*$'\n'}
  case ${answer%%$'\n'*} in
    running)
      started=yes
      if [[ $since_line -ge 600 ]]; then
        say "running: $last"
        since_line=0
      fi
      since_line=$((since_line + POLL_SECONDS))
      sleep "$POLL_SECONDS"
      ;;
    'ended with 0') is_done || finish 1 "the command ended well, but $WORKDIR/done/$(last_stage).json is not there" ;;
    'ended with 2') finish 2 'the command ended with 2, a mistake that has to be corrected: logs.sh --no-follow' ;;
    'ended with '*)
      sleep "$POLL_SECONDS" # a slice that is being taken away stops the command first
      [[ $(slice_state) != ACTIVE ]] || start_again "the command ${answer%%$'\n'*}"
      ;;
    *) start ;;
  esac
}

if is_done; then
  say "$WORKDIR/done/$(last_stage).json is there already: nothing to do"
  exit
fi
"$ROOM/fits.sh"
while ! is_done; do
  state=$(slice_state)
  case $state in
    ACTIVE) look ;;
    MISSING) make_slice ;;
    CREATING | ACCEPTED | WAITING_FOR_RESOURCES | PROVISIONING) wait_for_slice ;;
    SUSPENDING | DELETING) gone_silent "$NAME is $state" ;;
    UNKNOWN) gone_silent "gcloud does not tell: $(trouble)" ;;
    *)
      say "$NAME is $state: it was taken away or failed"
      remove_slice
      ;;
  esac
done
finish 0 "$WORKDIR/done/$(last_stage).json is there: the run is done"
