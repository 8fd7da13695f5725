#!/usr/bin/env bash
# Runs the official clients, unmodified, against the real binary over HTTP and HTTPS.
set -euo pipefail
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/../../target}
sluice=${SLUICE_BIN:-$target/debug/sluice}
tools=$target/sdk
mkdir -p "$tools"
cp package.json package-lock.json requirements.txt "$tools/"
[ -x "$tools/venv/bin/python" ] || python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install -q --disable-pip-version-check -r requirements.txt
(cd "$tools" && npm ci --silent --no-fund --no-audit)

work=$(mktemp -d)
server=
cleanup() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"; }
trap cleanup EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$work/tls.key" -out "$work/tls.pem" 2>/dev/null
export SLUICE_DATA=$work/data
"$sluice" serve --listen 127.0.0.1:0 --tls-listen 127.0.0.1:0 --tls-cert "$work/tls.pem" --tls-key "$work/tls.key" >"$work/out" 2>"$work/err" &
server=$!
for _ in $(seq 100); do grep -q 'listening on https' "$work/out" && break; sleep 0.1; done
SLUICE_HTTP=$(sed -n 's/^listening on http:/http:/p' "$work/out")
SLUICE_HTTPS_PORT=$(sed -n 's/^listening on https:.*:\([0-9]*\)$/\1/p' "$work/out")
export SLUICE_HTTP SLUICE_HTTPS_PORT
printf %s 'correct horse battery' | "$sluice" account create --email o@example.com --password-stdin >/dev/null
"$sluice" project create --owner o@example.com --name SDKs --json >"$work/project"
"$sluice" service-account create --project 1 --name scripts --role admin --json >"$work/account"
export SLUICE_PROJECT=$work/project SLUICE_ACCOUNT=$work/account
export REQUESTS_CA_BUNDLE=$work/tls.pem SSL_CERT_FILE=$work/tls.pem NODE_EXTRA_CA_CERTS=$work/tls.pem
status=0
"$tools/venv/bin/python" python_clients.py || status=1
NODE_PATH=$tools/node_modules node node_clients.cjs || status=1
days="--project 1 --from-date 1971-01-01 --to-date 2200-01-01"
# shellcheck disable=SC2086 # several words
"$sluice" export $days --profiles --format parquet --output "$work/parquet/" >/dev/null &&
  "$sluice" export $days --output "$work/events.jsonl" >/dev/null &&
  "$tools/venv/bin/python" parquet_file.py "$work/parquet" "$work/events.jsonl" || status=1
if [ $status != 0 ]; then tail -n 20 "$work/err" >&2; fi
exit $status
