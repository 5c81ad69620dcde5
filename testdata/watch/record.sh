#!/usr/bin/env bash
# Records anew what Docker Compose prints (docker-compose.txt), on an engine that it reaches:
#
#   SHIPWAY_TEST_COMPOSE='docker compose' SHIPWAY_TEST_COMPOSE_HOST=unix:///var/run/docker.sock \
#   SHIPWAY_TEST_COMPOSE_FOLDER=/var/tmp testdata/watch/record.sh
#
# SHIPWAY_TEST_COMPOSE is the command, SHIPWAY_TEST_COMPOSE_HOST the same engine as shipway reaches it, and
# SHIPWAY_TEST_COMPOSE_FOLDER a folder that both see under the same path. Without SHIPWAY_TEST_RECORD the same
# test compares instead of recording.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHIPWAY_TEST_RECORD=1
cargo test --test capabilities -- watch::shipway_prints_what_docker_compose_prints --nocapture
