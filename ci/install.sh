#!/usr/bin/env bash
# Install saereg for the GitHub Action: into an environment of its own, so that the caller's is left alone.
#
# INPUT_VERSION      a version on PyPI; empty for the checkout of the action itself
# INPUT_EXTRAS       extras, as in "torch,sign"; empty for what the level needs
# INPUT_LEVEL, INPUT_POLICY   decide whether torch is needed
# INPUT_TORCH_INDEX  package index for torch alone; empty for the configured one
# SAEREG_SOURCE      the checkout of the action
# SAEREG_VENV        where the environment goes
set -euo pipefail

extras="${INPUT_EXTRAS:-}"
case "${INPUT_LEVEL:-}/${INPUT_POLICY:-}" in
  weights/* | data/* | /hub-public | /paper) extras="${extras:-torch}" ;;
esac
if [[ ! "$extras" =~ ^[a-z,]*$ ]]; then
  echo "::error title=saereg::extras are names with commas between them, as in torch,sign"
  exit 2
fi
if [[ -n "${INPUT_VERSION:-}" && ! "$INPUT_VERSION" =~ ^[0-9][0-9A-Za-z.]*$ ]]; then
  echo "::error title=saereg::version is one version, as in 0.1.0"
  exit 2
fi

python -m venv "$SAEREG_VENV"
bin="$SAEREG_VENV/bin"
[[ -d "$bin" ]] || bin="$SAEREG_VENV/Scripts" # Windows
if [[ ",$extras," == *,torch,* && -n "${INPUT_TORCH_INDEX:-}" ]]; then
  "$bin/python" -m pip install --quiet --index-url "$INPUT_TORCH_INDEX" 'torch>=2.6'
fi
suffix="${extras:+[$extras]}"
if [[ -n "${INPUT_VERSION:-}" ]]; then
  "$bin/python" -m pip install --quiet "saereg${suffix}==$INPUT_VERSION"
else
  "$bin/python" -m pip install --quiet "$SAEREG_SOURCE$suffix"
fi
echo "$bin" >> "$GITHUB_PATH"
"$bin/saereg" --version
