#!/bin/bash
# Asks Docker Compose what each project of this folder means and writes its answers: to expected.json what
# `config --format json` prints, to hashes.txt what `config --hash '*'` does.
#   remake.sh [CASE…]        all without names; a project that Docker Compose refuses gets no expected.json
# COMPOSE is the command (default: docker compose), ENTER a command to run it with (`enter.sh` of the peers).
# Service hashes have absolute paths in them, so the cases are copied to /tmp/compose-cases.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
compose=(${COMPOSE:-docker compose})
work=/tmp/compose-cases
mkdir -p "$work"
touch "$here/hashes.txt"
[ $# -gt 0 ] || set -- $(cd "$here" && ls -d */)
ask() { # FOLDER WORD…: Docker Compose's answer there
  ${ENTER:-} bash -c 'cd "$0" && exec env HOME=/root "$@"' "$@" 2>/dev/null
}
for case in "$@"; do
  case=${case%/}
  [ -e "$here/$case/command" ] || continue
  rm -rf "${work:?}/$case"
  cp -a "$here/$case" "$work/$case"
  rm -f "$work/$case"/{command,expected.*,ours.json,differs.txt}
  # The command is `NAME=VALUE… compose OPTION…`; `--from FOLDER` is where it is called.
  eval "words=($(sed 's/\$/\\$/g' "$here/$case/command"))"
  variables=() options=() flags=() from=. seen=
  for word in "${words[@]}"; do
    if [ "$from" = next ]; then from=$word
    elif [ -z "$seen" ] && [ "$word" = compose ]; then seen=1
    elif [ -z "$seen" ]; then variables+=("$word")
    elif [ "$word" = --from ]; then from=next
    elif [[ $word == --no-* ]]; then flags+=("$word")
    else options+=("$word"); fi
  done
  asked=("$work/$case/$from" "${variables[@]}" "${compose[@]}" "${options[@]}" config "${flags[@]}")
  sed -i "/^$case /d" "$here/hashes.txt"
  if answer=$(ask "${asked[@]}" --format json); then
    answer=${answer//"$work/$case"//project}
    printf '%s\n' "${answer//"$work"//cases}" > "$here/$case/expected.json"
    ask "${asked[@]}" --hash '*' | sed "s/^/$case /" >> "$here/hashes.txt" || true
  else
    rm -f "$here/$case/expected.json"
  fi
  rm -rf "${work:?}/$case"
done
LC_ALL=C sort -o "$here/hashes.txt" "$here/hashes.txt"
