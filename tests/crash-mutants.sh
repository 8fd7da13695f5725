#!/usr/bin/env bash
# Builds five broken servers and shows that the crash tests catch each of them. A mutant that survives fails this script.
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/mutants
caught=0 survived=0
try() {
  local mutant=$1
  shift
  echo "== $mutant" >&2
  export RUSTFLAGS="--cfg sluice_mutant=\"$mutant\""
  # A mutant that does not build proves nothing.
  cargo build -q --locked -p server && cargo test -q --locked --no-run "$@" || { echo "$mutant: does not build"; survived=$((survived + 1)); return; }
  if SLUICE_BIN=$CARGO_TARGET_DIR/debug/sluice cargo test -q --locked "$@" >/dev/null 2>&1; then
    echo "$mutant: survived"
    survived=$((survived + 1))
  else
    echo "$mutant: caught"
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
