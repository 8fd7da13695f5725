#!/usr/bin/env bash
# The server and the page, both with reload: the page at once, the server once it is built anew.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$1 listen=$2
server= page=
stop() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; }
trap 'stop; [ -z "$page" ] || kill "$page" 2>/dev/null || true' EXIT
[ web/node_modules/.package-lock.json -nt web/package-lock.json ] || (cd web && npm ci --no-fund --no-audit --silent)
(cd web && SLUICE_URL="http://$listen" exec npm run --silent dev) &
page=$!
stamp=$(mktemp)
while true; do
  touch "$stamp"
  if cargo build --locked -p server; then
    stop
    wait "$server" 2>/dev/null || true
    "${CARGO_TARGET_DIR:-target}/debug/sluice" serve --demo --data "$data" --listen "$listen" --tls-listen 127.0.0.1:0 &
    server=$!
    echo "the page: http://127.0.0.1:5173" >&2
  fi
  until [ -n "$(find crates Cargo.toml sluice.default.toml -type f -newer "$stamp" -print -quit)" ]; do sleep 1; done
done
