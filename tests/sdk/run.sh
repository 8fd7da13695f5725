#!/usr/bin/env bash
# Runs the official clients, unmodified, against the real binary over HTTP and HTTPS. `run.sh python`, `node`, `browser` or `rust` runs one
# kind of them alone.
set -euo pipefail
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/../../target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
export SLUICE_BIN=${SLUICE_BIN:-$target/debug/sluice}
kinds=${*:-python node browser rust}
tools=$target/sdk
mkdir -p "$tools"
wanted() { [[ " $kinds " = *" $1 "* ]]; }

# What the clients need is installed once for each state of its lists.
installed() { [ -f "$tools/$1.sum" ] && (cd "$tools" && sha256sum --status -c "$1.sum" 2>/dev/null); }
if wanted python; then
  cp requirements.txt "$tools/"
  if ! installed python; then
    rm -rf "$tools/venv" && python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install -q --disable-pip-version-check -r requirements.txt
    (cd "$tools" && sha256sum requirements.txt >python.sum)
  fi
fi
cp .npmrc package.json package-lock.json "$tools/"
if ! installed node; then
  (cd "$tools" && npm ci --silent --no-fund --no-audit --ignore-scripts && sha256sum .npmrc package.json package-lock.json >node.sum)
fi
export NODE_PATH=$tools/node_modules
# The Rust clients are built while the others run; before the certificates below are the only ones that are trusted.
built=
if wanted rust; then
  CARGO_TARGET_DIR=$tools/rust cargo build -q --locked --manifest-path rust/Cargo.toml &
  built=$!
fi

work=$(mktemp -d)
server=
cleanup() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"; }
trap cleanup EXIT
# One client has the original's name written down: the certificate is for that too.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost,DNS:api.mixpanel.com,IP:127.0.0.1 -keyout "$work/tls.key" -out "$work/tls.pem" 2>/dev/null
export SLUICE_DATA=$work/data SLUICE_WORK=$work
"$SLUICE_BIN" serve --listen 127.0.0.1:0 --tls-listen 127.0.0.1:0 --tls-cert "$work/tls.pem" --tls-key "$work/tls.key" >"$work/out" 2>"$work/err" &
server=$!
for _ in $(seq 300); do grep -qs 'listening on https' "$work/out" && break; sleep 0.1; done
SLUICE_HTTP=$(sed -n 's/^listening on http:/http:/p' "$work/out")
SLUICE_HTTPS_PORT=$(sed -n 's/^listening on https:.*:\([0-9]*\)$/\1/p' "$work/out")
export SLUICE_HTTP SLUICE_HTTPS_PORT
printf %s 'correct horse battery' | "$SLUICE_BIN" account create --email o@example.com --password-stdin >/dev/null
"$SLUICE_BIN" project create --owner o@example.com --name SDKs --json >"$work/project" 2>/dev/null
"$SLUICE_BIN" service-account create --project 1 --name scripts --role admin --json >"$work/account" 2>/dev/null
export SLUICE_PROJECT=$work/project SLUICE_ACCOUNT=$work/account
export REQUESTS_CA_BUNDLE=$work/tls.pem SSL_CERT_FILE=$work/tls.pem NODE_EXTRA_CA_CERTS=$work/tls.pem
status=0
run() {
  local began=$SECONDS kind=$1
  shift
  "$@" || status=1
  echo "$kind clients: $((SECONDS - began)) s" >&2
}
parquet_is_read() {
  local days="--project 1 --from-date 1971-01-01 --to-date 2200-01-01"
  # shellcheck disable=SC2086 # several words
  "$SLUICE_BIN" export $days --profiles --format parquet --output "$work/parquet/" >/dev/null &&
    "$SLUICE_BIN" export $days --output "$work/events.jsonl" >/dev/null &&
    "$tools/venv/bin/python" parquet_file.py "$work/parquet" "$work/events.jsonl"
}
if wanted python; then
  run python "$tools/venv/bin/python" python_clients.py
  run Parquet parquet_is_read
fi
if wanted node; then
  run node node node_clients.cjs
  run "React Native" node react_native_clients.mjs
fi
if wanted browser; then run browser node browser_clients.cjs; fi
if wanted rust; then wait "$built" && run rust node rust_clients.cjs "$tools/rust/debug/rust-clients" || status=1; fi
if [ $status != 0 ]; then tail -n 20 "$work/err" "$work/browser.log" >&2 || true; fi
exit $status
