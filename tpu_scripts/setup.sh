#!/usr/bin/env bash
# Installs cosample_jax on every worker of the slice, and has `cosample doctor` look at each. Can be run again.
#
#   setup.sh [--dry-run]
#
# What runs there is worker_setup.sh: the data disk, the code, a Python, a venv, the package with the extra tpu. Where
# the command runs already nothing is changed.
source "$(dirname "$0")/lib.sh"

for flag; do common_flag "$flag"; done
load_env

count_workers

# A slice that has just become ACTIVE refuses ssh for a while.
for try in 1 2 3 4 5; do
  on_workers true && break
  state=$(slice_state)
  [[ $state == ACTIVE ]] || fail 3 "$NAME is $state: it was taken away during set-up"
  say "no ssh yet to worker ${BAD[*]} (try $try of 5)"
  [[ $try != 5 ]] || fail 3 "worker ${BAD[*]} of $NAME cannot be reached: delete the slice and create it again"
  sleep 15
done

files=("$ROOM"/worker_*.sh)
if [[ $INSTALL == checkout ]]; then
  packed=$(mktemp -d)
  trap 'rm -rf "$TROUBLE" "$packed"' EXIT
  files+=("$packed/cosample_jax.tgz")
  if [[ -z $DRY_RUN ]]; then
    git -C "$CHECKOUT" ls-files -z --cached --others --exclude-standard |
      tar -C "$CHECKOUT" --null -T - -czf "$packed/cosample_jax.tgz"
  fi
fi
run gcloud compute tpus tpu-vm scp "${files[@]}" "$NAME:" "${WHERE[@]}" --quiet --worker=all ||
  fail 3 "files could not be copied to every worker of $NAME"

on_workers bash worker_setup.sh "$INSTALL" "${GIT_URL-}" "${GIT_REF-}" "${DATA_DISK_GB-}" || {
  state=$(slice_state)
  [[ $state == ACTIVE ]] || fail 3 "$NAME is $state: it was taken away during set-up"
  fail 1 "the installation failed on worker ${BAD[*]}; its lines stand above"
}

# On several hosts doctor would hold the mesh against the devices of one: there it looks at the machine alone.
doctor=()
! single_host || doctor=("${CONFIG_FLAGS[@]}" --workdir="$WORKDIR")
on_workers bash worker_doctor.sh "${doctor[@]}" || {
  state=$(slice_state)
  [[ $state == ACTIVE ]] || fail 3 "$NAME is $state: it was taken away during set-up"
  fail 1 "cosample doctor is not content on worker ${BAD[*]}; what to do stands above"
}
[[ $DRY_RUN ]] || say "${#WORKERS[@]} worker(s) of $NAME are set up"
