# Everything that people and CI call. `make run` and `make test` need Rust, Node, a C compiler and nothing else installed by hand.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)
export CARGO_TARGET_DIR := $(TARGET)
DATA ?= $(CURDIR)/data
LISTEN ?= 127.0.0.1:8080
TLS_LISTEN ?= 127.0.0.1:8443
N ?= 1000
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

check-rust:
	@command -v cargo >/dev/null || { echo "Sluice needs Rust 1.95 or newer: install it with rustup, then run this again." >&2; exit 1; }
	@have=$$(rustc --version | cut -d' ' -f2 | cut -d- -f1); \
	  [ "$$(printf '%s\n1.95.0\n' "$$have" | sort -V | head -n 1)" = 1.95.0 ] || { echo "Sluice needs Rust 1.95 or newer; this is $$have. Run: rustup update stable" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "Sluice needs a C compiler. On Debian: apt-get install build-essential" >&2; exit 1; }

check-node:
	@command -v node >/dev/null || { echo "Sluice's page and its tests need Node 20.19 or newer." >&2; exit 1; }
	@have=$$(node -p process.versions.node); \
	  [ "$$(printf '%s\n20.19.0\n' "$$have" | sort -V | head -n 1)" = 20.19.0 ] || { echo "Sluice's page and its tests need Node 20.19 or newer; this is $$have." >&2; exit 1; }

run: check-rust web ## build the page and the server, and serve a demo project on loopback
	@echo "Building (a first build takes some minutes) …" >&2
	@cargo build --release --locked -p server
	@exec "$(TARGET)/release/sluice" serve --demo --data "$(DATA)" --listen "$(LISTEN)" --tls-listen "$(TLS_LISTEN)"

web: check-node ## build the page, which the next build of the server embeds
	@web/build.sh

dev: check-rust check-node ## server and page on loopback, both with reload
	@web/dev.sh "$(DATA)" "$(LISTEN)"

screenshots: check-node tools web ## take the pictures of docs/pictures anew
	@cargo build -q --locked -p server && cd web && npm run --silent screenshots

test: check-rust check-node tools ## install what the tests need, run every test, print the counts
	@tests/run.sh

tools: # Debian's packages that the tests use
	@tests/tools.sh

fmt: ## format the Rust code
	@cargo fmt --all

lint: ## clippy, with warnings as errors
	@cargo clippy --workspace --all-targets --locked -- -D warnings

tidy: ## the form of the house
	@cargo run -q --locked -p xtask -- tidy

deny: ## licences, advisories, duplicates (needs cargo-deny)
	@cargo deny check

crash: ## kill the server N times under load and count what came back (N=1000)
	@cargo build -q --locked -p server && CRASH_CYCLES=$(N) cargo test -q --locked -p e2e --test kill -- --nocapture --test-threads=1

fuzz: ## break what clients send for a minute per reader, on stable (FUZZ_SECONDS=60, SEED=N for the same again)
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-60} cargo test -q --locked -p e2e --test fuzz -- --nocapture

mutations: ## 100,000 broken requests to a running server (MUTATIONS=100000, SEED=N)
	@cargo build -q --locked -p server && MUTATIONS=$${MUTATIONS:-100000} cargo test -q --locked -p e2e --test mutations -- --nocapture

crash-mutants: ## build five broken servers and show that the crash tests catch each
	@tests/crash-mutants.sh

bench: ## ingest, memory, bytes on disk and start-up beside a bare server, proofs beside none
	@cargo build --release --locked -p server -p e2e
	@# A target of its own: a broken binary must never lie where a good one is looked for.
	@SLUICE_MUTANT=no_signature_check CARGO_TARGET_DIR="$(TARGET)/mutants" cargo build -q --release --locked -p server
	@SLUICE_BIN="$(TARGET)/release/sluice" SLUICE_UNCHECKED_BIN="$(TARGET)/mutants/release/sluice" "$(TARGET)/release/bench"

soak: ## what honest clients notice under attack, and how soon a revocation holds (SOAK_SECONDS=30)
	@cargo build --release --locked -p server -p e2e
	@SLUICE_BIN="$(TARGET)/release/sluice" "$(TARGET)/release/soak"

dist: check-rust web ## stripped binary, systemd unit, settings, checksums, Debian package
	@packaging/dist.sh "$(VERSION)"

clean: ## remove what was built
	@cargo clean

.PHONY: help check-rust check-node run web dev screenshots test tools fmt lint tidy deny fuzz mutations crash crash-mutants bench soak dist clean
