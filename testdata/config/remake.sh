#!/bin/bash
# Asks Docker Compose what `config` prints with the flags of each line of flags.txt, and writes it to
# expected/N.txt, N being the line's number. COMPOSE and ENTER are those of ../compose/remake.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
compose=(${COMPOSE:-docker compose})
work=/tmp/compose-cases/flags
rm -rf "$work" "$here/expected"
mkdir -p "$here/expected" "${work%/*}"
cp -a "$here/project" "$work"
number=0
set -f
while read -r line; do
  number=$((number + 1))
  ${ENTER:-} bash -c 'cd "$0" && exec env HOME=/root "$@"' "$work" "${compose[@]}" config $line \
    2>/dev/null </dev/null | sed "s|$work|/project|g" > "$here/expected/$number.txt"
done < "$here/flags.txt"
rm -rf "$work"
