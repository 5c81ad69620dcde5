#!/usr/bin/env bash
# Sets up everything on a bare Debian machine with Rust and runs all tests, as root:
#
#   tests/run.sh                               everything
#   tests/run.sh --test capabilities -- pack   arguments go to `cargo test`
#   tests/run.sh --shell [COMMAND…]            a shell, or COMMAND, in the tests' surroundings instead
#
# The tests run in a mount, process and network namespace of their own, together with a Docker Engine
# and a registry that are started for them and end with them. So no port, name or mount of the tests
# meets one of the machine, an Engine of the machine is left alone, and whatever a failed or
# interrupted run leaves behind dies with the namespaces. Packages of the tests' images come through
# a network of its own with address translation.
#
# What the tests find in their environment (each may be given by hand to a plain `cargo test`; a test
# that misses what it needs says `skipped: needs …`):
#
#   SHIPWAY_TEST_ALL=1           a test that cannot run fails instead of being skipped
#   SHIPWAY_TEST_DOCKER_HOST     unix:// address of an Engine that tests may use as they like; it holds
#                                busybox:latest and debian:bookworm-slim
#   SHIPWAY_TEST_TLS             folder with the certificates of the same Engine behind TLS, and its address in
#                                the file `host`
#   SHIPWAY_TEST_SSH             folder with the ssh configuration that reaches the same Engine, and its address
#                                in the file `host`
#   SHIPWAY_TEST_REGISTRY        host:port of a registry, plain HTTP, without login; it holds
#                                library/busybox:latest and library/debian:bookworm-slim
#   SHIPWAY_TEST_BUSYBOX_TAR     root file system of one static busybox
#   SHIPWAY_TEST_DEBIAN_TAR      root file system of a minimal Debian; apt works inside
#   SHIPWAY_TEST_SCRATCH         folder for stores and contexts, on ext4, xfs or btrfs (TMPDIR lies there too)
#
# Kept between runs, because it is downloaded: ${XDG_CACHE_HOME:-/var/cache}/shipway-tests
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/setup.sh

packages=(
  ca-certificates          # crates.io and HTTPS mirrors
  gcc libc6-dev            # the linker for Rust, and the C parts of ring and zstd
  curl                     # asks Engine and registry whether they are up
  git                      # serves and fetches the repositories that tests add
  docker.io                # the Engine that images are handed to
  docker-registry          # the registry that is pulled from
  iptables                 # the Engine's networks, and the way out of the tests' own network
  iproute2                 # makes the tests' own network
  mmdebstrap debian-archive-keyring   # make the Debian root file system
  busybox-static           # the busybox root file system
  openssh-client           # an ssh agent to pass on to a step, and the way to an Engine behind ssh
  openssh-server           # that way's other end
  openssl                  # certificates for an Engine behind TLS
  skopeo                   # reads the image archives that we write, and writes some for us to read
  jq                       # reads what programs are told, in the README's examples
  strace                   # sees what a no-op does, and kills the program at calls of its own
  e2fsprogs                # the Engine wants ext4; where the disk is something else, one is made
)

main() {
  need_root
  need_rust
  without_services install_packages "${packages[@]}"
  cache=$(cache_folder)
  export SHIPWAY_TEST_BUSYBOX_TAR=$cache/busybox.tar
  SHIPWAY_TEST_DEBIAN_TAR=$cache/$(debian_tar_name)
  export SHIPWAY_TEST_DEBIAN_TAR
  make_busybox_tar "$SHIPWAY_TEST_BUSYBOX_TAR"
  make_debian_tar "$SHIPWAY_TEST_DEBIAN_TAR"
  [ "${1:-}" = --shell ] || build_tests "$@"
  name=shipway-tests-$$
  work=${TMPDIR:-/var/tmp}/$name
  remove_what_killed_runs_left
  mkdir -m 700 "$work"
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  [ "${1:-}" != --shell ] || trap : INT
  make_network
  say "running the tests beside an Engine of their own"
  # All of it dies with the first process of the process namespace, and that one with this script.
  # In the background, so that a signal is acted on at once; hence the two signals, which the shell
  # makes background processes ignore, are set back.
  env --default-signal=INT,QUIT setpriv --pdeathsig KILL nsenter --net="/run/netns/$name" \
    unshare --mount --propagation slave --pid --fork --kill-child --mount-proc \
    "$BASH" "${BASH_SOURCE[0]}" --inside "$name" "$work" "$@" <&0 &
  child=$!
  while kill -0 $child 2>/dev/null; do
    result=0
    wait $child || result=$?
  done
  return "$result"
}

# Compiles outside of the namespaces, where cargo reaches what it always reaches.
build_tests() {
  local cargo_arguments=()
  while [ $# -gt 0 ] && [ "$1" != -- ]; do cargo_arguments+=("$1"); shift; done
  say "compiling the tests"
  cargo test --locked --no-run "${cargo_arguments[@]}"
}

clean_up() {
  [ -z "${child:-}" ] || { kill -9 "$child" 2>/dev/null && wait "$child" 2>/dev/null; } || true
  remove_run "$name" "$work"
}

# remove_run NAME WORK   what a run leaves outside of its namespaces.
remove_run() {
  ip netns delete "$1" 2>/dev/null || true
  remove_rules "$1"
  find /sys/fs/cgroup -depth -type d \( -path "*/$1" -o -path "*/$1/*" \) -exec rmdir {} + 2>/dev/null || true
  rm -rf "$2"
}

# A run that was killed could not clean up: the next one does.
remove_what_killed_runs_left() {
  local left
  for left in $(ip netns list | awk '/^shipway-tests-/ {print $1}') "${TMPDIR:-/var/tmp}"/shipway-tests-*; do
    left=${left##*/}
    case ${left##*-} in *[!0-9]* | '') continue ;; esac
    kill -0 "${left##*-}" 2>/dev/null || remove_run "$left" "${TMPDIR:-/var/tmp}/$left"
  done
}

# --- a network of its own --------------------------------------------------------------------------

# One pair of interfaces in 198.18.0.0/15, the range for tests of networks, and three rules that all
# carry the name of the run, by which they are found again.
make_network() {
  local outside=swt$$ third=$(($$ / 64 % 256)) fourth=$(($$ % 64 * 4))
  local net=198.18.$third.$fourth/30 here=198.18.$third.$((fourth + 1)) there=198.18.$third.$((fourth + 2))
  ip netns add "$name"
  ip link add "$outside" type veth peer name eth0 netns "$name"
  ip addr add "$here/30" dev "$outside"
  ip link set "$outside" up
  ip -n "$name" addr add "$there/30" dev eth0
  ip -n "$name" link set lo up
  ip -n "$name" link set eth0 up
  ip -n "$name" route add default via "$here"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  iptables -w -I FORWARD -i "$outside" -m comment --comment "$name" -j ACCEPT
  iptables -w -I FORWARD -o "$outside" -m comment --comment "$name" -j ACCEPT
  iptables -w -t nat -A POSTROUTING -s "$net" ! -o "$outside" -m comment --comment "$name" -j MASQUERADE
}

# remove_rules NAME   the rules of that run; the interfaces go with the namespace.
remove_rules() {
  local table rule
  for table in filter nat; do
    iptables -w -t $table -S 2>/dev/null | sed -n "/--comment $1 /s/^-A/-D/p" | while read -r rule; do
      # shellcheck disable=SC2086
      iptables -w -t $table $rule
    done
  done
}

# --- inside the namespaces -------------------------------------------------------------------------

# inside NAME WORK CARGO-ARGUMENT…   the first process of the namespaces: starts Engine and registry, runs
# the tests; everything ends with it.
inside() {
  local name=$1 work=$2 run
  shift 2
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  own_system_folders
  case $(stat -f -c %T "$work") in
    ext2/ext3 | xfs | btrfs) ;;
    *) mount_ext4 "$work" ;;
  esac
  run=$work/run
  mkdir "$run" "$work/scratch" "$work/temporary"
  make_certificates "$work/tls"
  echo tcp://127.0.0.1:2376 >"$work/tls/host"
  start_engine "$run/dockerd.pid" "$work/dockerd.log" "$run/docker.sock" \
    -H tcp://127.0.0.1:2376 --tlsverify --tlscacert "$work/tls/ca.pem" \
    --tlscert "$work/tls/server.pem" --tlskey "$work/tls/server-key.pem" \
    --data-root "$work/docker" --exec-root "$run/docker" --pidfile "$run/engine.pid" \
    --containerd-namespace "shipway-tests" --containerd-plugins-namespace "shipway-tests-plugins" \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$name"
  start_registry "$run/registry.pid" "$work/registry.log" "$work/registry" 127.0.0.1:5000
  start_sshd "$run/sshd.pid" "$work/sshd.log" "$work/ssh" 2222
  echo "ssh://root@127.0.0.1:2222$run/docker.sock" >"$work/ssh/host"
  fill_engine_and_registry "$run/docker.sock"
  export SHIPWAY_TEST_ALL=1 SHIPWAY_TEST_DOCKER_HOST=unix://$run/docker.sock SHIPWAY_TEST_REGISTRY=127.0.0.1:5000 \
    SHIPWAY_TEST_TLS=$work/tls SHIPWAY_TEST_SSH=$work/ssh SHIPWAY_TEST_SCRATCH=$work/scratch TMPDIR=$work/temporary
  # Neither the user's Engine nor the user's store.
  unset DOCKER_HOST DOCKER_CONTEXT SHIPWAY_STORE
  if [ "${1:-}" = --shell ]; then
    shift
    "${@:-$BASH}"
  else
    CARGO_NET_OFFLINE=true cargo test --locked "$@"
  fi
}

# /sys shows the interfaces of this network, /var/run/docker.sock is no Engine of the machine, and a
# name server that listens on the machine's loopback is replaced by the one behind it.
own_system_folders() {
  local sys
  sys=$(mktemp -d)
  mount -t sysfs sysfs "$sys"
  mount --rbind /sys/fs/cgroup "$sys/fs/cgroup"
  mount --move "$sys" /sys
  rmdir "$sys"
  [ ! -S /var/run/docker.sock ] || mount --bind /dev/null /var/run/docker.sock
  if grep -qE '^nameserver +127\.' /etc/resolv.conf; then
    [ -e /run/systemd/resolve/resolv.conf ] || die "the only name server listens on the machine's own loopback"
    mount --bind /run/systemd/resolve/resolv.conf "$(readlink -f /etc/resolv.conf)"
  fi
}

mount_ext4() {
  truncate -s 20G "$1/disk"
  mkfs.ext4 -q -F "$1/disk"
  mount -o loop "$1/disk" "$1"
}

fill_engine_and_registry() {
  local image
  import_into_engine "$1" "$SHIPWAY_TEST_BUSYBOX_TAR" busybox:latest sh
  import_into_engine "$1" "$SHIPWAY_TEST_DEBIAN_TAR" debian:bookworm-slim bash
  for image in busybox:latest debian:bookworm-slim; do
    docker -H "unix://$1" tag "$image" "127.0.0.1:5000/library/$image"
    docker -H "unix://$1" push -q "127.0.0.1:5000/library/$image" >/dev/null
    docker -H "unix://$1" rmi "127.0.0.1:5000/library/$image" >/dev/null
  done
}

if [ "${1:-}" = --inside ]; then
  shift
  inside "$@"
else
  main "$@"
fi
