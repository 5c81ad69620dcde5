#!/usr/bin/env bash
# Launches this folder's project with one of shipway and Docker Compose and handles it with the other, both
# ways round, on a real engine:
#
#   testdata/both-ways/try.sh [SHIPWAY]          default: target/debug/shipway
#
# COMPOSE   how Docker Compose is called (default: docker compose)
# FOLDER    a folder that both see under this path (default: a new one); it is removed at the end
# DOCKER_HOST as usual. Prints a line for each step, `ok` or what went wrong, and fails if one did.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
shipway=$(realpath "${1:-$here/../../target/debug/shipway}")
read -ra compose <<<"${COMPOSE:-docker compose}"
folder=${FOLDER:-$(mktemp -d)}/both-ways-$$
project=hi-both-$$
mkdir -p "$folder" && cp "$here/compose.yaml" "$folder" && cd "$folder" || exit 1
export SHIPWAY_STORE=$folder/store NO_COLOR=1
log=$folder/log failed=0

ours()   { "$shipway" -p "$project" "$@"; }
theirs() { "${compose[@]}" -p "$project" "$@"; }
# The containers of the project: name, id, state.
state() { docker ps -a --no-trunc --filter "label=com.docker.compose.project=$project" --format '{{.Names}} {{.ID}} {{.State}}' | sort; }
ids()    { state | cut -d' ' -f1,2; }
states() { state | cut -d' ' -f3 | sort -u | tr '\n' ' '; }

# step WORDS EXPECTED COMMAND…   runs it; its output has to contain EXPECTED, its code has to be 0.
step() {
  local words=$1 expected=$2; shift 2
  if [ "$1" = ours ] && ! "$shipway" "$2" --help >/dev/null 2>&1; then printf 'note  %s: no such command yet\n' "$words"; return; fi
  if "$@" >"$log" 2>&1 </dev/null && { [ -z "$expected" ] || grep -qF -- "$expected" "$log"; }; then printf 'ok    %s\n' "$words"
  else failed=1; printf 'FAIL  %s: expected `%s` in\n' "$words" "$expected"; sed 's/^/        /' "$log" | tail -n 15; fi
}
# now WORDS EXPECTED ACTUAL
now() { [ "$2" = "$3" ] && printf 'ok    %s\n' "$1" || { failed=1; printf 'FAIL  %s: `%s`, not `%s`\n' "$1" "$3" "$2"; }; }
clean() { ours down -v -t 0 >/dev/null 2>&1; theirs down -v -t 0 >/dev/null 2>&1; rm -rf "$folder"; }
trap clean EXIT

# handled WHO…   everything that leaves the containers what they are.
handled() {
  local who=$1 before; before=$(ids)
  step "$who ps" web-1 "$who" ps
  step "$who ps -a --format json" '"Service":"db"' "$who" ps -a --format json
  step "$who logs" "web is up" "$who" logs
  step "$who logs SERVICE" "db is up" "$who" logs db
  step "$who exec" hello "$who" exec -T web cat /greeting
  step "$who top" sleep "$who" top web
  step "$who stop" "" "$who" stop -t 0
  now "  stopped" "exited " "$(states)"
  step "$who start" "" "$who" start
  now "  started" "running " "$(states)"
  step "$who restart" "" "$who" restart -t 0
  now "  restarted" "running " "$(states)"
  step "$who pause" "" "$who" pause web
  step "$who unpause" "" "$who" unpause web
  step "$who kill" "" "$who" kill web
  step "$who start SERVICE" "" "$who" start web
  now "  the containers are the same" "$before" "$(ids)"
}
# removed WHO   down, and nothing is left.
removed() {
  step "$1 down -v" "" "$1" down -v -t 0
  now "  no container is left" "" "$(state)"
  now "  no network or volume is left" "" "$(docker network ls -q --filter name="$project"; docker volume ls -q --filter name="$project")"
}

echo "launched by shipway, handled by Docker Compose"
step "shipway up -d" "" ours up -d
handled theirs
before=$(ids)
step "Docker Compose up -d" "" theirs up -d
[ "$before" = "$(ids)" ] && echo "note  Docker Compose's up kept the containers" || echo "note  Docker Compose's up made them anew"
before=$(ids)
step "Docker Compose up -d again" "" theirs up -d
now "  now they stay" "$before" "$(ids)"
step "shipway up -d, back again" "" ours up -d
step "  what the anonymous volume held is there" kept theirs exec -T web ls /anonymous
before=$(ids)
step "shipway up -d again" "" ours up -d
now "  now they stay" "$before" "$(ids)"
removed theirs

echo "launched by Docker Compose, handled by shipway"
step "Docker Compose up -d" "" theirs up -d
handled ours
step "shipway up -d" "" ours up -d
step "  what the anonymous volume held is there" kept theirs exec -T web ls /anonymous
before=$(ids)
step "shipway up -d again" "" ours up -d
now "  now they stay" "$before" "$(ids)"
removed ours
step "Docker Compose up -d" "" theirs up -d
removed ours
exit $failed
