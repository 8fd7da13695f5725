#!/usr/bin/env bash
# Builds five broken servers and shows that the crash tests catch each of them. A mutant that survives fails this script.
set -uo pipefail
cd "$(dirname "$0")/.."
# A target of their own: a broken binary must never lie where a good one is looked for.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/mutants
caught=0 survived=0
try() {
  local mutant=$1
  shift
  export SLUICE_MUTANT=$mutant
  # A mutant that does not build proves nothing.
  cargo build -q --locked -p server && cargo test -q --locked --no-run "$@" || { echo "$mutant: does not build"; survived=$((survived + 1)); return; }
  if SLUICE_BIN=$CARGO_TARGET_DIR/debug/sluice cargo test -q --locked "$@" >"$CARGO_TARGET_DIR/$mutant.log" 2>&1; then
    echo "$mutant: survived"
    survived=$((survived + 1))
  else
    echo "$mutant: caught ($(grep -oE 'acknowledged (events|changes|profile changes) are lost|is corrupt|No such file|came back twice|is lost' "$CARGO_TARGET_DIR/$mutant.log" | sort | uniq -c | sort -rn | head -n 1 | sed 's/^ *[0-9]* //'))"
    caught=$((caught + 1))
  fi
}
try ack_before_write -p e2e --test kill
try replay_skips_last -p e2e --test kill
try no_log_sync -p store --test power_loss
try no_segment_sync -p store --test power_loss
try no_dir_sync -p store --test power_loss
echo "$caught caught, $survived survived"
[ "$survived" -eq 0 ]
