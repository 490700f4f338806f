#!/bin/sh
# Publish a release to a hub on this machine with the saereg of the PATH, verify it there and pull it back.
# Usage: rehearse.sh RELEASE FOLDER
set -eu
release=$1 out=$2
mkdir -p "$out"
rm -rf "$out/hub" "$out/pulled" "$out/hub.url"
saereg hub serve "$out/hub" --port 0 --quiet >"$out/hub.url" &
served=$!
trap 'kill $served 2>/dev/null || true' EXIT
for _ in $(seq 100); do
    [ -s "$out/hub.url" ] && break
    sleep 0.1
done
HF_ENDPOINT=$(cat "$out/hub.url") HF_TOKEN=hf_rehearsal HF_HOME=$out/hub-client NO_PROXY=127.0.0.1
export HF_ENDPOINT HF_TOKEN HF_HOME NO_PROXY
unset HF_HUB_OFFLINE || true
saereg publish "$release" hf://rehearsal/release --level header
saereg publish "$release" hf://rehearsal/release --level header | grep 'nothing to do'
saereg verify hf://rehearsal/release
saereg pull hf://rehearsal/release --all --with-evaluations --no-lock --out "$out/pulled"
saereg publish "$out/pulled" hf://rehearsal/release --level header | grep 'nothing to do'
