#!/usr/bin/env bash
# Every test, in the order in which a failure is cheapest to read; ends with one line of counts.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
part() {
  echo "== $1" >&2
  shift
  "$@" 2>&1 | tee -a "$log" || { failed=$((failed + 1)); echo "FAILED: $*" | tee -a "$log"; }
}
part "the page" web/build.sh
part "the server" cargo build --locked -p server
part "unit, case and end-to-end tests" cargo test --locked --workspace --no-fail-fast
part "the official clients" tests/sdk/run.sh
part "the page's own tests" web/test.sh

passed=$(grep -oE '[0-9]+ passed' "$log" | awk '{n += $1} END {print n + 0}')
broken=$(grep -oE '[0-9]+ failed' "$log" | awk '{n += $1} END {print n + 0}')
echo "$passed passed, $((broken > failed ? broken : failed)) failed"
[ "$failed" -eq 0 ]
