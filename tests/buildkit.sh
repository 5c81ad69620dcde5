#!/usr/bin/env bash
# Writes what a real BuildKit makes of the cases in testdata/buildkit into them:
#
#   tests/buildkit.sh            all cases
#   tests/buildkit.sh copy-      those whose names contain that
#
# BUILDKIT_ENGINE   unix socket of a Docker Engine with the containerd image store (only that one writes
#                   OCI archives); its busybox:latest and debian:bookworm-slim are replaced
# BUILDKIT_COMMAND  how a build begins (default: docker buildx build)
# BUILDKIT_FOLDER   a folder that this command can read (default: the folder for temporary files)
#
# The expected text does not depend on the machine: it has no times of the build, no paths and nothing
# of the base images. Where no BuildKit is, the committed text is compared with all the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/setup.sh

need_rust
socket=${BUILDKIT_ENGINE:-/var/run/docker.sock}
engine_answers "$socket" || die "no Docker Engine answers on $socket (BUILDKIT_ENGINE)"
cache=$(cache_folder)
busybox=${SHIPWAY_TEST_BUSYBOX_TAR:-$cache/busybox.tar}
debian=${SHIPWAY_TEST_DEBIAN_TAR:-$cache/$(debian_tar_name)}
make_busybox_tar "$busybox"
make_debian_tar "$debian"
docker -H "unix://$socket" rmi -f busybox:latest debian:bookworm-slim >/dev/null 2>&1 || true
import_into_engine "$socket" "$busybox" busybox:latest sh
import_into_engine "$socket" "$debian" debian:bookworm-slim bash
say "building the cases with BuildKit"
DOCKER_HOST=unix://$socket SHIPWAY_TEST_CASE=${1:-} \
  SHIPWAY_REMAKE_WITH=${BUILDKIT_COMMAND:-docker buildx build} SHIPWAY_REMAKE_IN=${BUILDKIT_FOLDER:-${TMPDIR:-/tmp}} \
  cargo test --locked --test capabilities -- --ignored buildkit::remake
