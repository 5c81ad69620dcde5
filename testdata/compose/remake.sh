#!/bin/bash
# Asks Docker Compose what each project of this folder means and writes its answer to expected.json.
#   remake.sh [CASE…]        all without names; a project that Docker Compose refuses gets no expected.json
# COMPOSE is the command (default: docker compose), ENTER a command to run it with (`enter.sh` of the peers),
# WORK a folder that it can see (default: a temporary one).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
compose=(${COMPOSE:-docker compose})
work=${WORK:-$(mktemp -d)}
[ $# -gt 0 ] || set -- $(cd "$here" && ls -d */)
for case in "$@"; do
  case=${case%/}
  [ -e "$here/$case/command" ] || continue
  rm -rf "${work:?}/$case"
  cp -a "$here/$case" "$work/$case"
  rm -f "$work/$case"/{command,expected.*,ours.json,differs.txt}
  # The command is `NAME=VALUE… compose OPTION…`; `--from FOLDER` is where it is called.
  eval "words=($(sed 's/\$/\\$/g' "$here/$case/command"))"
  variables=() options=() from=. seen=
  for word in "${words[@]}"; do
    if [ -n "$seen" ]; then options+=("$word"); elif [ "$word" = compose ]; then seen=1; else variables+=("$word"); fi
  done
  if [ "${options[0]:-}" = --from ]; then from=${options[1]}; options=("${options[@]:2}"); fi
  flags=()
  for word in "${options[@]}"; do
    case $word in --no-*) flags+=("$word"); options=("${options[@]/#$word}");; esac
  done
  kept=()
  for word in "${options[@]}"; do [ -z "$word" ] || kept+=("$word"); done
  options=("${kept[@]}")
  if answer=$(cd "$work/$case/$from" && ${ENTER:-} env HOME=/root "${variables[@]}" \
      "${compose[@]}" "${options[@]}" config --format json "${flags[@]}" 2>/dev/null); then
    answer=${answer//"$work/$case"//project}
    printf '%s\n' "${answer//"$work"//cases}" > "$here/$case/expected.json"
  else
    rm -f "$here/$case/expected.json"
  fi
  rm -rf "${work:?}/$case"
done
