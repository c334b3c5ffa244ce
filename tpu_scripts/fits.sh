#!/usr/bin/env bash
# Asks `cosample plan` on this machine whether the command fits the slice; nothing of Google Cloud is called.
#
#   fits.sh [--dry-run]
#
# With libtpu here (`make libtpu`, or the extra tpu) the real TPU compiler is asked, too. COSAMPLE names the
# program when it is neither in .venv nor on the PATH.
source "$(dirname "$0")/lib.sh"

for flag; do common_flag "$flag"; done
load_env

cosample=${COSAMPLE:-$CHECKOUT/.venv/bin/cosample}
[[ -x $cosample ]] || cosample=$(command -v cosample) || fail 2 'no cosample here: make install, or COSAMPLE=its path'
plan=(plan "${CONFIG_FLAGS[@]}" --topology="${TOPOLOGY[$ACCELERATOR]}")
case ${COMMAND[0]} in
  prepare | pretrain | sample | grade | judge | analyze)
    # The plan is of a whole run. Of a stage before the fine-tuning it is asked with the least fine-tuning there is.
    plan+=("--config.roles.trained=('student',)" --config.finetune.lora_rank=1)
    ;;
esac
has_libtpu='import importlib.util, os, sys; beside = os.path.isdir(os.path.join(sys.prefix, "libtpu"))
sys.exit(not beside and importlib.util.find_spec("libtpu") is None)'
if "$(dirname "$cosample")/python" -c "$has_libtpu" 2>/dev/null; then
  plan+=(--compile)
fi

cd "$CHECKOUT" # configurations are named from there
if [[ $DRY_RUN ]]; then
  quoted "$cosample" "${plan[@]}"
  exit
fi
say "asking: cosample ${plan[*]}"
told=$(mktemp)
trap 'rm -f "$TROUBLE" "$told"' EXIT
"$cosample" "${plan[@]}" 2>&1 | tee "$told" || {
  # The memory of a device is what it refuses a run for; anything else it says is another matter.
  grep -q 'GiB a device' "$told" || fail 2 'cosample plan could not tell, for the reason above: nothing was started'
  fail 2 "the run does not fit $ACCELERATOR, says cosample plan: nothing was started"
}
# A program that the compiler refuses has its words where the bytes would stand.
if grep -q 'GiB: compiler [^0-9]' "$told"; then
  fail 2 "the TPU compiler refuses a program on $ACCELERATOR: nothing was started"
fi
