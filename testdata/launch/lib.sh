# The words of the scripts `run`. Each is given a folder of its own to work in, so that the project may be
# changed on the way.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
: "${SHIPWAY:=shipway}"
export SHIPWAY_STORE="${SHIPWAY_STORE:-$work/store}"
export COMPOSE_PROJECT_NAME="${COMPOSE_PROJECT_NAME:-launch-$(basename "$here")}"
project=$COMPOSE_PROJECT_NAME
cp -a "$here" "$work/project"
cd "$work/project"

leave() {
  code=$?
  "$SHIPWAY" down --volumes --remove-orphans --timeout 0 >/dev/null 2>&1 || true
  docker ps -aq --filter "name=^/?$project-" | xargs -r docker rm -f >/dev/null 2>&1 || true
  [ -z "${also_removed:-}" ] || docker network rm $also_removed >/dev/null 2>&1 || true
  rm -rf "$work"
  exit $code
}
trap leave EXIT

die() {
  echo "NOT AS IT SHOULD BE: $*"
  exit 1
}

# ship CODE ARGUMENT…   runs shipway, shows what it says, and expects the exit code.
ship() {
  expected=$1
  shift
  echo "\$ shipway $*"
  code=0
  "$SHIPWAY" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
  cat "$work/out" "$work/err"
  [ "$code" = "$expected" ] || die "exit code $code instead of $expected"
}

# says TEXT…   the last command said all of this, on one stream or the other.
says() {
  for text; do
    grep -qF -- "$text" "$work/out" "$work/err" || die "it does not say: $text"
  done
}

# silent TEXT…   the last command said nothing of this.
silent() {
  for text; do
    ! grep -qF -- "$text" "$work/out" "$work/err" || die "it says: $text"
  done
}

# containers   name and state of every container of the project, sorted.
containers() {
  docker ps -a --no-trunc --filter "label=com.docker.compose.project=$project" --format '{{.Names}} {{.State}}' |
    sed "s/^$project.//" | sort
}

# are LINES   what `containers` prints.
are() {
  found=$(containers)
  [ "$found" = "$1" ] || die "containers:
$found
instead of:
$1"
}

# id CONTAINER   (web-1)
id() { docker inspect --format '{{.Id}}' "$project-$1"; }

# inside CONTAINER COMMAND…
inside() {
  container=$1
  shift
  docker exec "$project-$container" "$@"
}

# until_true COMMAND…   tries for half a minute.
until_true() {
  tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || die "never came true: $*"
    sleep 0.1
  done
}
