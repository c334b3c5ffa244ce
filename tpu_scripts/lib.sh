# shellcheck shell=bash
# What the scripts of this directory share: flags, the env file and its checks, gcloud, the workers.
# Exit codes: 0 done; 1 a step failed; 2 a value or flag is wrong, or the run does not fit: nothing was called; 3 the
# slice is not there, was taken away or cannot be reached; 4 it was not created for want of quota or capacity, which may
# pass.
set -euo pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "bash 4.4 or later is needed, and this is $BASH_VERSION" >&2
  exit 2
fi

ROOM=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # for the scripts
CHECKOUT=${ROOM%/*}
DRY_RUN=''

# What each type is to `cosample plan --topology`.
declare -A TOPOLOGY=(
  [v5litepod-1]=v5e:1x1 [v5litepod-4]=v5e:2x2 [v5litepod-8]=v5e:2x4 [v5litepod-16]=v5e:4x4 [v5litepod-32]=v5e:4x8
  [v5litepod-64]=v5e:8x8 [v5litepod-128]=v5e:8x16 [v5litepod-256]=v5e:16x16
  [v6e-1]=v6e:1x1 [v6e-4]=v6e:2x2 [v6e-8]=v6e:2x4 [v6e-16]=v6e:4x4 [v6e-32]=v6e:4x8 [v6e-64]=v6e:8x8
  [v6e-128]=v6e:8x16 [v6e-256]=v6e:16x16
  [v5p-8]=v5p:2x2x1 [v5p-16]=v5p:2x2x2 [v5p-32]=v5p:2x2x4 [v5p-64]=v5p:2x4x4 [v5p-128]=v5p:4x4x4
  [v4-8]=v4:2x2x1 [v4-16]=v4:2x2x2 [v4-32]=v4:2x2x4 [v4-64]=v4:2x4x4 [v4-128]=v4:4x4x4
)
declare -A RUNTIMES=(
  [v5litepod]=v2-alpha-tpuv5-lite [v5p]=v2-alpha-tpuv5 [v6e]=v2-alpha-tpuv6e [v4]=tpu-ubuntu2204-base
)

say() { printf '%(%H:%M:%S)T  %s\n' -1 "$*"; }

fail() { # fail CODE WORDS
  printf '%s: %s\n' "${0##*/}" "${*:2}" >&2
  exit "$1"
}

quoted() { # the arguments as one line that a shell reads back as they are
  local word line=''
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+=" $word"
  done
  printf '%s\n' "${line:1}"
}

run() { # runs a command; with --dry-run prints it
  if [[ $DRY_RUN ]]; then quoted "$@"; else "$@"; fi
}

common_flag() { # what every script takes: the help is the comment that the script begins with
  case $1 in
    --help | -h)
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    --dry-run) DRY_RUN=--dry-run ;;
    *) fail 2 "unknown flag $1; --help tells which there are" ;;
  esac
}

# The env file

WRONG=0
complain() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  WRONG=1
}

check() { # check NAME REGEX WHAT-IT-IS [optional]
  local value=${!1-}
  if [[ -z $value ]]; then
    [[ ${4-} == optional ]] || complain "$1 is not set: $3"
  elif ! [[ $value =~ ^($2)$ ]]; then
    complain "$1=$value is not right: $3"
  fi
}

load_env() { # reads the env file and ends here, a line for each wrong value, when it cannot be worked with
  local file=${TPU_ENV:-$ROOM/env} word
  [[ -f $file ]] || fail 2 "there is no $file: copy tpu_scripts/env.example to it, or name another by TPU_ENV"
  # shellcheck disable=SC2034 # for create.sh
  COMMAND=() ENVIRONMENT=() CREATE_FLAGS=()
  # shellcheck source=env.example
  source "$file"
  check PROJECT '([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]' 'the id of a Google Cloud project'
  check ZONE '[a-z]+-[a-z]+[0-9]+-[a-z]' 'a zone, such as us-west4-a'
  check NAME '[a-z]([a-z0-9-]{0,40}[a-z0-9])?' 'small letters, digits and -, a letter first'
  check ACCELERATOR '[a-z0-9-]+' 'such as v5litepod-8'
  if [[ ${ACCELERATOR-} && -z ${TOPOLOGY[$ACCELERATOR]-} ]]; then
    complain "ACCELERATOR=$ACCELERATOR is not known here: one of $(printf '%s\n' "${!TOPOLOGY[@]}" | sort -V | xargs)"
  fi
  check RUNTIME '[a-z0-9.-]+' 'a TPU software version, such as v2-alpha-tpuv5-lite' optional
  check TIER 'spot|on-demand' 'spot or on-demand'
  check DATA_DISK_GB '[1-9][0-9]+' 'GB, at least 10' optional
  check INSTALL 'git|checkout' 'git or checkout'
  if [[ ${INSTALL-} == git ]]; then
    check GIT_URL '(https://|ssh://|git@).+' 'where INSTALL=git clones from'
    check GIT_REF '[A-Za-z0-9_./-]+' 'a branch, tag or commit'
  fi
  check WORKDIR 'gs://[a-z0-9][a-z0-9._-]+/.*[^/]' 'gs://BUCKET/PATH, where the run outlives the slice'
  check COMMAND 'run|prepare|pretrain|sample|grade|judge|analyze|finetune|evaluate|report' \
    'a list that begins with a stage or run: COMMAND=(run --config=...)'
  CONFIG_FLAGS=()
  for word in "${COMMAND[@]:1}"; do
    [[ $word != --workdir* ]] || complain "COMMAND has $word: WORKDIR says it"
    [[ $word != --config* ]] || CONFIG_FLAGS+=("$word")
  done
  [[ " ${CONFIG_FLAGS[*]-}" == *' --config='* ]] || complain 'COMMAND has no --config=FILE'
  for word in "${ENVIRONMENT[@]}"; do
    [[ $word =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || complain "ENVIRONMENT has $word: NAME=value is wanted"
  done
  : "${POLL_SECONDS:=60}" "${WAIT_HOURS:=24}" "${MAX_CREATES:=20}" "${BACKOFF_SECONDS:=60}" "${MAX_RELAUNCHES:=3}"
  for word in POLL_SECONDS WAIT_HOURS MAX_CREATES BACKOFF_SECONDS MAX_RELAUNCHES; do
    check "$word" '[0-9]{1,6}' 'a whole number'
  done
  if [[ ${DATA_DISK_GB-} && ${ACCELERATOR-} ]] && ! single_host; then
    complain "DATA_DISK_GB=$DATA_DISK_GB: a disk that is written has one host, and $ACCELERATOR has more; use gs://"
  fi
  [[ $WRONG == 0 ]] || exit 2
  RUNTIME=${RUNTIME:-${RUNTIMES[${ACCELERATOR%-*}]}}
  WHERE=(--project="$PROJECT" --zone="$ZONE")
}

single_host() { [[ $ACCELERATOR =~ ^(v5litepod|v6e)-[148]$ || $ACCELERATOR =~ ^v(4|5p)-8$ ]]; }

# The slice

slice_state() { # prints the queued resource's state; when that is ACTIVE and the slice is not READY, the slice's; or
  # MISSING; or UNKNOWN, with gcloud's reason in $TROUBLE's file
  local state
  state=$(told queued-resources describe "$NAME" "${WHERE[@]}" --format='value(state.state)')
  if [[ $state == ACTIVE ]]; then
    state=$(told tpu-vm describe "$NAME" "${WHERE[@]}" --format='value(state)')
    [[ $state != READY ]] || state=ACTIVE
  fi
  printf '%s\n' "$state"
}

TROUBLE=$(mktemp)
trap 'rm -f "$TROUBLE"' EXIT

told() { # what `gcloud compute tpus ARGUMENTS` says, MISSING or UNKNOWN
  local out
  if out=$(gcloud compute tpus "$@" 2>"$TROUBLE"); then
    printf '%s\n' "${out:-UNKNOWN}"
  elif grep -qi 'not_found\|not found' "$TROUBLE"; then
    echo MISSING
  else
    echo UNKNOWN
  fi
}

trouble() { tail -n 1 "$TROUBLE"; }

why_failed() { # what the service says of a request that FAILED
  gcloud compute tpus queued-resources describe "$NAME" "${WHERE[@]}" \
    --format='value(state.failedData.error.message)' 2>&1 | tail -n 1 || true
}

# The workers

count_workers() { # WORKERS becomes 0 1 2 ...; with --dry-run the one word `all`
  local describe=(compute tpus tpu-vm describe "$NAME" "${WHERE[@]}" --format='value(networkEndpoints.len())') count
  WORKERS=(all)
  if [[ $DRY_RUN ]]; then
    quoted gcloud "${describe[@]}"
    return
  fi
  count=$(gcloud "${describe[@]}" 2>"$TROUBLE") || fail 3 "$NAME is not there: $(trouble)"
  [[ $count =~ ^[1-9][0-9]*$ ]] || fail 3 "gcloud does not say how many workers $NAME has, but '$count'"
  mapfile -t WORKERS < <(seq 0 $((count - 1)))
}

on_worker() { # on_worker N WORDS...: runs a command there; the words arrive as they are
  run gcloud compute tpus tpu-vm ssh "$NAME" "${WHERE[@]}" --quiet --worker="$1" --command="$(quoted "${@:2}")" \
    --ssh-flag=-oConnectTimeout=20 --ssh-flag=-oServerAliveInterval=30 # a host that goes ends the command
}

on_workers() { # on_workers WORDS...: runs a command on all at once, shows each one's lines; BAD are those it failed on
  local worker logs
  BAD=()
  if [[ $DRY_RUN ]]; then
    on_worker all "$@"
    return
  fi
  logs=$(mktemp -d)
  declare -A jobs=()
  for worker in "${WORKERS[@]}"; do
    on_worker "$worker" "$@" >"$logs/$worker" 2>&1 </dev/null &
    jobs[$worker]=$!
  done
  for worker in "${WORKERS[@]}"; do
    wait "${jobs[$worker]}" || BAD+=("$worker")
    sed "s/^/[worker $worker] /" "$logs/$worker"
  done
  rm -r "$logs"
  [[ ${#BAD[@]} == 0 ]]
}

# The run

last_stage() { if [[ ${COMMAND[0]} == run ]]; then echo report; else echo "${COMMAND[0]}"; fi; }

is_done() { gcloud storage ls "$WORKDIR/done/$(last_stage).json" >/dev/null 2>"$TROUBLE"; }
