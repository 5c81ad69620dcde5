#!/usr/bin/env bash
# Writes what a real Docker Compose makes of the cases in testdata/inspect into them, as the engine's
# `inspect` says it:
#
#   tests/inspect.sh             all cases
#   tests/inspect.sh network-    those whose names contain that
#
# Run it once for each engine version that tests/inspect/case.rs names (ENGINES): the results of the
# engine at hand are written, those of the others stay.
#
# COMPOSE_ENGINE    unix socket of that Docker Engine; it needs busybox:latest
# COMPOSE_COMMAND   how Docker Compose is called (default: docker compose); it gets DOCKER_HOST
# COMPOSE_FOLDER    a folder that command and engine both see under this path (default: the one for
#                   temporary files)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/setup.sh

need_rust
socket=${COMPOSE_ENGINE:-/var/run/docker.sock}
engine_answers "$socket" || die "no Docker Engine answers on $socket (COMPOSE_ENGINE)"
say "making the cases with Docker Compose"
SHIPWAY_TEST_DOCKER_HOST=unix://$socket SHIPWAY_TEST_CASE=${1:-} \
  SHIPWAY_REMAKE_WITH=${COMPOSE_COMMAND:-docker compose} SHIPWAY_REMAKE_IN=${COMPOSE_FOLDER:-${TMPDIR:-/tmp}} \
  cargo test --locked --test capabilities -- --ignored inspect::remake
