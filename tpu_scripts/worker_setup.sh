#!/usr/bin/env bash
# What setup.sh runs on each worker: worker_setup.sh INSTALL GIT_URL GIT_REF DATA_DISK_GB. Can be run again.
set -euo pipefail
install=$1 url=$2 ref=$3 disk_gb=$4
home=$HOME/cosample_jax

if tmux has-session -t =cosample 2>/dev/null; then
  echo 'the command runs here: nothing is changed under it'
  exit
fi

if [[ $disk_gb ]] && ! mountpoint -q /mnt/data; then
  device=$(lsblk -dnbpo NAME,SIZE,TYPE | awk -v size=$((disk_gb * 2 ** 30)) '$2 == size && $3 == "disk" { print $1 }')
  [[ $device && $device != *$'\n'* ]] || { echo "no one disk of $disk_gb GiB here: '$device'"; exit 1; }
  sudo blkid "$device" >/dev/null || sudo mkfs.ext4 -q -m 0 "$device"
  sudo mkdir -p /mnt/data
  sudo mount -o discard,defaults "$device" /mnt/data
  sudo chown "$(id -un)" /mnt/data
fi

command -v tmux >/dev/null || { sudo apt-get -qq update && sudo apt-get -qq install -y tmux; }

if [[ $install == git ]]; then
  [[ -d $home/.git ]] || git clone --quiet "$url" "$home"
  git -C "$home" fetch --quiet --tags "$url" '+refs/heads/*:refs/remotes/origin/*'
  commit=$(git -C "$home" rev-parse --quiet --verify "refs/remotes/origin/$ref^{commit}" ||
    git -C "$home" rev-parse --quiet --verify "$ref^{commit}") || { echo "$url has no $ref"; exit 1; }
  git -C "$home" checkout --quiet --detach "$commit"
else
  mkdir -p "$home"
  tar -xzf "$HOME/cosample_jax.tgz" -C "$home"
fi

# The images bring Python 3.10; uv brings 3.11, for which constraints.txt has the versions: a slice that is made again
# has the same. jax[tpu] is there for the libtpu that belongs to that jax.
export PATH=$HOME/.local/bin:$PATH
command -v uv >/dev/null || python3 -m pip install --quiet --user uv
[[ -x $home/.venv/bin/python ]] || uv venv --quiet --python 3.11 "$home/.venv"
cd "$home"
uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable '.[tpu]' 'jax[tpu]'
.venv/bin/cosample --version
