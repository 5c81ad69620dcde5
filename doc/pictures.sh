#!/usr/bin/env bash
# Makes the README's pictures from testdata/pack, in the surroundings of the tests:
#
#   tests/run.sh --shell doc/pictures.sh
#
# doc/plan.svg is `plan --format dot` after a line of the application changed, drawn by graphviz; doc/trace.svg
# is the trace of a cold build, drawn by doc/trace.py as the usual viewers draw it.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v dot >/dev/null || apt-get -qq install -y graphviz >/dev/null
cargo build --quiet --locked
program=$PWD/target/debug/shipway
doc=$PWD/doc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SHIPWAY_STORE=$work/store
cp -a testdata/pack "$work/pack"
cd "$work/pack"
run() { "$program" --engine none "$@"; }
run image import "$SHIPWAY_TEST_DEBIAN_TAR" debian:bookworm-slim
run --parallel 2 build --trace "$work/trace.json"
python3 "$doc/trace.py" "$work/trace.json" >"$doc/trace.svg"
echo '# one line more' >>flask/app.py
run plan --format dot | dot -Tsvg >"$doc/plan.svg"
