#!/usr/bin/env bash
# Run `saereg validate` once for the GitHub Action: annotations in the log, SARIF, JSON lines and the job summary.
#
# What a caller gives comes in by the environment (INPUT_*) and is never parsed as shell. The exit code of saereg is
# the output `exit-code`; a later step ends with it, so that the SARIF file is uploaded first.
set -euo pipefail

out="$(mktemp -d "${RUNNER_TEMP:?}/saereg-report.XXXXXX")"
sarif="$out/saereg.sarif" report="$out/saereg.jsonl" summary="$out/summary.md"

arguments=(--format github --format "sarif:$sarif" --format "jsonl:$report" --format "markdown:$summary")
arguments+=(--fail-on "${INPUT_FAIL_ON:-error}")
[[ -z "${INPUT_LEVEL:-}" ]] || arguments+=(--level "$INPUT_LEVEL")
[[ -z "${INPUT_PROFILE:-}" ]] || arguments+=(--profile "$INPUT_PROFILE")
[[ -z "${INPUT_POLICY:-}" ]] || arguments+=(--policy "$INPUT_POLICY")
[[ "${INPUT_RUN_SNIPPETS:-false}" != true ]] || arguments+=(--run-snippets)
while IFS= read -r argument; do
  [[ -z "$argument" ]] || arguments+=("$argument")
done <<< "${INPUT_ARGS:-}"

code=0
saereg validate "${arguments[@]}" -- "${INPUT_PATH:-.}" || code=$?

{
  echo "exit-code=$code"
  echo "sarif=$([[ ! -s "$sarif" ]] || echo "$sarif")"
  echo "report=$([[ ! -s "$report" ]] || echo "$report")"
} >> "$GITHUB_OUTPUT"

# The markdown report keeps below the megabyte above which GitHub shows no summary at all.
if [[ "${INPUT_SUMMARY:-true}" == true && -n "${GITHUB_STEP_SUMMARY:-}" ]]; then
  if [[ -s "$summary" ]]; then
    cat "$summary"
  else
    echo "saereg validate made no report (exit code $code); the log says why."
  fi >> "$GITHUB_STEP_SUMMARY"
fi

case "$code" in
  0 | 1) ;;
  5) echo "::error title=saereg::there is nothing to validate: the folder is missing or holds no manifest.json" ;;
  *) echo "::error title=saereg::saereg validate could not finish (exit code $code); the log says why" ;;
esac
