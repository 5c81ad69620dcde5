#!/usr/bin/env bash
# Brings this project up on a bare Debian machine with Rust, as root, and shows that it works:
#
#   testdata/pack/demo.sh          sets up what is missing, builds shipway, `shipway up -d`, fetches the
#                                  page through nginx twice, shows the counter, the rows and `shipway ps`
#   testdata/pack/demo.sh down     takes the project down, and the Engine if this script started it
#   testdata/pack/demo.sh once     both, one after the other
#
# May be run again at any time: what is there already is used. An Engine that answers (DOCKER_HOST, else
# /var/run/docker.sock) is used and never stopped. Base images are pulled by shipway itself; where no
# registry answers, images made from Debian packages stand in for them, and this script says so.
set -euo pipefail
shopt -s inherit_errexit
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
project=$top/testdata/pack
. "$top/tests/setup.sh"

packages=(
  ca-certificates curl     # fetch the page; ask Engine and registry whether they answer
  gcc libc6-dev            # the linker for Rust, and the C parts of ring and zstd
  iproute2                 # says who holds a port
)
engine_packages=(
  docker.io iptables       # an Engine, and the tool that it sets up its networks with
)
stand_in_packages=(
  mmdebstrap debian-archive-keyring   # make the root file system of debian:bookworm-slim
)
ports=(80 3306 8000)
page=http://127.0.0.1:80/

state=/var/lib/shipway-demo
engine_pid=$state/dockerd.pid
engine_log=$state/dockerd.log
shipway=${CARGO_TARGET_DIR:-$top/target}/release/shipway

up() {
  install_packages "${packages[@]}"
  need_rust
  need_engine
  say "building shipway"
  # Linked for speed of building: what `cargo install` makes is smaller and takes several times as long.
  (cd "$top" && CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo build --release --locked)
  cd "$project"
  check_ports
  need_images
  shown shipway up -d
  show_page
  shown shipway ps
  say "the page stays at http://localhost/ until: $0 down"
}

down() {
  if [ -x "$shipway" ] && engine_here; then
    cd "$project"
    shown shipway down || warn "the project could not be taken down"
  fi
  if alive "$engine_pid"; then
    say "stopping the Engine that this script started"
    stop_daemon "$engine_pid" 20
  fi
  say "down; what was built stays in shipway's store and in the Engine"
}

# shown COMMAND…   prints a command as a user would type it, then runs it.
shown() {
  printf '\n$ %s\n' "$*"
  "$@"
}

shipway() { "$shipway" "$@"; }

# --- the Engine ------------------------------------------------------------------------------------

engine_here() {
  case ${DOCKER_HOST:-unix:///var/run/docker.sock} in
    unix://*) local address=${DOCKER_HOST:-unix:///var/run/docker.sock}; engine_answers "${address#unix://}" ;;
    *) curl -sf -m 5 "http://${DOCKER_HOST#*://}/_ping" >/dev/null ;;
  esac
}

need_engine() {
  if engine_here; then
    say "using the Engine that answers on ${DOCKER_HOST:-/var/run/docker.sock}"
    return
  fi
  [ -z "${DOCKER_HOST:-}" ] || die "no Engine answers on DOCKER_HOST=$DOCKER_HOST"
  install_packages "${engine_packages[@]}"
  # Where systemd runs, Debian's package starts its service by itself.
  if [ -d /run/systemd/system ] && wait_until 20 engine_here; then
    say "using the Engine that Debian's docker.service has started"
    return
  fi
  say "no Engine answers: starting one (log: $engine_log)"
  mkdir -p "$state"
  start_engine "$engine_pid" "$engine_log" /var/run/docker.sock
}

# Names whoever holds a port that the project publishes, before anything is built.
check_ports() {
  local port holder taken=0
  [ -z "$(shipway ps -q 2>/dev/null)" ] || return 0
  for port in "${ports[@]}"; do
    holder=$(ss -Hltnp "sport = :$port" | sed -n 's/.*users:((\("[^)]*\)).*/\1/p' | sort -u | head -n 1)
    [ -n "$(ss -Hltn "sport = :$port")" ] || continue
    warn "port $port is taken by ${holder:-a process of another namespace}"
    taken=1
  done
  [ $taken = 0 ] || die "free these ports first: docker-compose.yml publishes ${ports[*]}"
}

# --- base images -----------------------------------------------------------------------------------

registry_answers() {
  case $(curl -s -o /dev/null -m 5 -w '%{http_code}' https://registry-1.docker.io/v2/) in 200 | 401) ;; *) return 1 ;; esac
}

need_images() {
  local rootfs
  if registry_answers; then
    say "Docker Hub answers: shipway pulls debian:bookworm-slim, and redis:3.2 is the real one"
    return
  fi
  say "Docker Hub does not answer. Standing in for its images, made from Debian packages:"
  say "  debian:bookworm-slim   a minimal Debian bookworm by mmdebstrap"
  say "  redis:3.2              Debian's redis-server, by testdata/pack/redis/Dockerfile"
  if ! shipway image ls 2>/dev/null | grep -Eq 'debian[: ]+bookworm-slim'; then
    install_packages "${stand_in_packages[@]}"
    rootfs=$(cache_folder)/$(debian_tar_name)
    make_debian_tar "$rootfs"
    shown shipway image import "$rootfs" debian:bookworm-slim
  fi
  shown shipway image build -t redis:3.2 redis
}

# --- the page --------------------------------------------------------------------------------------

show_page() {
  local jar first second
  jar=$(mktemp)
  say "waiting for the page (the database fills itself at its first start)"
  wait_until 120 curl -sf -m 30 -c "$jar" -o "$jar.page" "$page" || {
    curl -s -m 30 "$page" >&2 || true
    shipway ps >&2 || true
    rm -f "$jar" "$jar.page"
    die "$page did not come up; see: cd $project && $shipway logs"
  }
  first=$(visits <"$jar.page")
  curl -sf -m 30 -b "$jar" -c "$jar" -o "$jar.page" "$page"
  second=$(visits <"$jar.page")
  printf '\n$ curl %s   (twice, with the session cookie)\n' "$page"
  printf 'first visit:  counter %s\nsecond visit: counter %s\nrows:\n' "$first" "$second"
  sed -n 's,<tr><td>\(.*\)</td><td>\(.*\)</td><td>\(.*\)</td></tr>,  \1 | \2 | \3,p' "$jar.page"
  rm -f "$jar" "$jar.page"
  [ "$second" = $((first + 1)) ] || die "the counter did not move: the session was not kept in redis"
}

visits() { sed -n 's,.*Visits in this session: \([0-9]*\).*,\1,p'; }

need_root
case ${1:-up} in
  up) up ;;
  down) down ;;
  once) up; down ;;
  *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
