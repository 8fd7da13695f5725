#!/usr/bin/env bash
# The page's unit tests, then the real binary in one browser. Files are no tests: their count is left out.
set -euo pipefail
cd "$(dirname "$0")"
npm test --silent -- --no-color 2>&1 | grep -v 'Test Files'
exec node e2e/run.mjs
