#!/usr/bin/env bash
# Stands on the PATH for gcloud, sleep and cosample, and asks cloud.py, which listens on port $CLOUD, what they do. That is
# ten times as fast as to start a Python for each call.
exec 3<>"/dev/tcp/127.0.0.1/$CLOUD"
printf '%s\0' "$#" "${0##*/}" "$@" >&3
IFS= read -r code <&3
while IFS= read -r line <&3; do
  if [[ $code == 0 ]]; then printf '%s\n' "$line"; else printf '%s\n' "$line" >&2; fi
done
exit "$code"
