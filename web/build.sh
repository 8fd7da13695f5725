#!/usr/bin/env bash
# Builds the page into web/dist, where anything of it changed since; the next build of the server embeds it.
set -euo pipefail
cd "$(dirname "$0")"
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-fund --no-audit --silent
sources=(index.html package-lock.json precompress.mjs tsconfig.json vite.config.ts src ../docs/openapi.json)
if [ -f dist/index.html ] && [ -z "$(find "${sources[@]}" -type f ! -name schema.d.ts -newer dist/index.html -print -quit)" ]; then exit 0; fi
npm run --silent build >&2
