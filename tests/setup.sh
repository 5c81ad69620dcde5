# shellcheck shell=bash
# What demo.sh and tests/run.sh need of a bare Debian machine, each thing in one function.
# Sourced by both (`. tests/setup.sh`); does nothing by itself. Every function is idempotent and
# says in one line what it changes. Where it downloads from is the machine's own apt configuration,
# read at run time.
#
# Deliberately not here: anything about shipway's own commands (the callers know those), and any
# `pkill`: what is started is remembered by pid and stopped by pid.

say()  { printf '%s: %s\n' "${0##*/}" "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die()  { warn "$*"; exit 1; }

need_root() {
  [ "$(id -u)" = 0 ] || die "must run as root (it installs packages, mounts and starts an Engine)"
  command -v apt-get >/dev/null || die "needs a Debian machine: no apt-get here"
}

# Cargo of a rustup installation that is not on this shell's PATH (sudo drops it) is found too.
need_rust() {
  command -v cargo >/dev/null || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  command -v cargo >/dev/null || die "no cargo: install Rust first (https://rustup.rs)"
}

# cache_folder   where what was downloaded is kept between runs.
cache_folder() { printf '%s/shipway-tests\n' "${XDG_CACHE_HOME:-/var/cache}"; }

# --- Debian packages -----------------------------------------------------------------------------

# install_packages NAME…   installs those that are not there yet, without their recommendations.
install_packages() {
  local name missing=() log
  for name in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing Debian packages: ${missing[*]}"
  log=$(mktemp)
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2; rm -f "$log"; die "apt-get could not install ${missing[*]}"
  fi
  rm -f "$log"
}

# without_services COMMAND…   runs COMMAND; services of packages that it installs do not start.
without_services() {
  local policy=/usr/sbin/policy-rc.d result=0
  if [ -e $policy ]; then "$@"; return; fi
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
  "$@" || result=$?
  rm -f $policy
  return $result
}

# --- root file systems ---------------------------------------------------------------------------

# machine_sources   prints apt's one-line sources for bookworm and its updates and security suites
# as this machine reaches them, whatever suite the machine itself runs.
machine_sources() {
  known_sources || { apt-get update -q >/dev/null 2>&1 && known_sources; } ||
    die "apt knows no Debian mirror on this machine"
}

known_sources() {
  # shellcheck disable=SC2016 # apt's own placeholders
  apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI) $(CODENAME)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" && $2 == "main" { kind = ($4 ~ /-security$/) ? "security" : "main"
           if (!(kind in uri)) { uri[kind] = $3 } }
         END { if (!("main" in uri)) exit 1
           printf "deb %s bookworm main\ndeb %s bookworm-updates main\n", uri["main"], uri["main"]
           if ("security" in uri) printf "deb %s bookworm-security main\n", uri["security"] }'
}

# machine_apt_options   prints the lines of this machine's apt configuration that decide how a mirror
# is reached (proxies, certificates, frozen release files), for use inside a root file system.
machine_apt_options() {
  apt-config dump | grep -E '^Acquire::((http|https)::.*[^:]|Check-Valid-Until|Check-Date|Retries) ".+";$' || true
}

# make_busybox_tar FILE   the host's static busybox with one link per applet; the same bytes every time.
make_busybox_tar() {
  local root applet
  [ ! -s "$1" ] || return 0
  mkdir -p "$(dirname "$1")"
  root=$(mktemp -d)
  mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp,usr/bin,var}
  cp /bin/busybox "$root/bin/busybox"
  "$root/bin/busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
  done
  ln -s ../../bin/env "$root/usr/bin/env"
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
  chmod 755 "$root"; chmod 1777 "$root/tmp"
  tar --sort=name --mtime=@1700000000 --owner=0 --group=0 --numeric-owner -C "$root" -cf "$1.part" .
  rm -rf "$root"
  mv "$1.part" "$1"
}

# debian_tar_name   the file name of the Debian root file system for this machine's mirror settings:
# another mirror gives another name, so a cached file never carries stale sources.
debian_tar_name() {
  local key
  key=$( { machine_sources; machine_apt_options; declare -f make_debian_tar; } | sha256sum | cut -c1-12)
  printf 'debian-bookworm-slim-%s.tar\n' "$key"
}

# make_debian_tar FILE   a minimal Debian bookworm laid out like Docker Hub's debian:bookworm-slim: no
# documentation, no service starts during apt-get install, apt caches nothing, and apt inside reaches
# the mirror as this machine does. About 30 seconds.
make_debian_tar() {
  local work hooks include=usr-is-merged log
  [ ! -s "$1" ] || return 0
  mkdir -p "$(dirname "$1")"
  work=$(mktemp -d)
  machine_sources >"$work/sources.list"
  machine_apt_options >"$work/90machine"
  cat >"$work/80image" <<'APT'
Acquire::Languages "none";
Acquire::GzipIndexes "true";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
APT
  mkdir -p "$work/add/usr/sbin"
  printf '#!/bin/sh\n# No service starts while an image is built.\nexit 101\n' >"$work/add/usr/sbin/policy-rc.d"
  chmod 755 "$work/add/usr/sbin/policy-rc.d"
  chmod 644 "$work/80image" "$work/90machine"
  # shellcheck disable=SC2016 # the hooks' own $1
  hooks=(
    --customize-hook="copy-in $work/80image $work/90machine /etc/apt/apt.conf.d"
    --customize-hook='rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/resolv.conf" "$1/etc/hostname"'
  )
  if grep -q ' https:' "$work/sources.list"; then
    include+=,ca-certificates
    # shellcheck disable=SC2016
    hooks+=(--customize-hook='cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/ca-certificates.crt"')
  fi
  say "making a Debian root file system with mmdebstrap (about half a minute)"
  log=$work/log
  if ! SOURCE_DATE_EPOCH=1700000000 mmdebstrap --mode=root --variant=minbase --skip=output/dev \
    --include="$include" --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr "${hooks[@]}" \
    --aptopt="$work/90machine" --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$1.part.tar" - <"$work/sources.list" >"$log" 2>&1; then
    tail -n 20 "$log" >&2; rm -rf "$work" "$1.part.tar"; die "mmdebstrap could not make the Debian root file system"
  fi
  # mmdebstrap removes a policy-rc.d of its own at its very end, so ours is added afterwards.
  tar --owner=0 --group=0 --numeric-owner --mtime=@1700000000 -C "$work/add" -rf "$1.part.tar" ./usr/sbin/policy-rc.d
  rm -rf "$work"
  mv "$1.part.tar" "$1"
}

# --- processes that are started and stopped by pid -------------------------------------------------

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

# start_daemon PIDFILE LOG COMMAND…   detached from this terminal, so that Ctrl-C does not reach it.
start_daemon() {
  local pidfile=$1 log=$2
  shift 2
  setsid nohup "$@" >>"$log" 2>&1 </dev/null &
  echo $! >"$pidfile"
}

# stop_daemon PIDFILE SECONDS   asks with SIGTERM, insists with SIGKILL after SECONDS.
stop_daemon() {
  local pid i
  alive "$1" || { rm -f "$1"; return 0; }
  pid=$(cat "$1")
  kill "$pid" 2>/dev/null || true
  for ((i = 0; i < $2 * 10; i++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$1"
}

# wait_until SECONDS COMMAND…   true as soon as COMMAND is, false after SECONDS.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

# engine_answers SOCKET   does a Docker Engine answer on this unix socket?
engine_answers() { curl -sf -m 5 --unix-socket "$1" http://localhost/_ping >/dev/null 2>&1; }

# start_engine PIDFILE LOG SOCKET DOCKERD-ARGUMENT…
start_engine() {
  local pidfile=$1 log=$2 socket=$3
  shift 3
  start_daemon "$pidfile" "$log" dockerd -H "unix://$socket" "$@"
  if ! wait_until 60 engine_answers "$socket"; then
    tail -n 20 "$log" >&2
    stop_daemon "$pidfile" 10
    die "the Docker Engine did not come up; its log is $log"
  fi
}

# import_into_engine SOCKET TAR NAME COMMAND   a root file system as an image, unless NAME is there.
import_into_engine() {
  docker -H "unix://$1" image inspect "$3" >/dev/null 2>&1 ||
    docker -H "unix://$1" import -c "CMD [\"$4\"]" \
      -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$2" "$3" >/dev/null
}

# make_certificates FOLDER   an authority, a certificate of 127.0.0.1 and localhost for an Engine and one for
# whoever asks it: ca.pem, server.pem, server-key.pem, cert.pem, key.pem; and the authority of somebody else
# in other/ca.pem.
make_certificates() {
  local folder=$1 name
  mkdir -p "$folder/other"
  for name in "$folder" "$folder/other"; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=${name##*/}" \
      -keyout "$name/ca-key.pem" -out "$name/ca.pem" 2>/dev/null
  done
  sign_certificate "$folder" server server-key 'subjectAltName=DNS:localhost,IP:127.0.0.1' serverAuth
  sign_certificate "$folder" cert key 'subjectAltName=DNS:client' clientAuth
}

# sign_certificate FOLDER NAME KEY-NAME EXTENSION USAGE
sign_certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" \
    -keyout "$1/$3.pem" -out "$1/$2.csr" 2>/dev/null
  openssl x509 -req -in "$1/$2.csr" -CA "$1/ca.pem" -CAkey "$1/ca-key.pem" -CAcreateserial -days 2 \
    -extfile <(printf '%s\nextendedKeyUsage=%s\n' "$4" "$5") -out "$1/$2.pem" 2>/dev/null
}

# start_sshd PIDFILE LOG FOLDER PORT   an ssh server on the loopback that lets root in with FOLDER/key;
# FOLDER/ssh_config is for the client.
start_sshd() {
  mkdir -p "$3" /run/sshd
  ssh-keygen -q -t ed25519 -N '' -f "$3/key"
  ssh-keygen -q -t ed25519 -N '' -f "$3/host_key"
  cat >"$3/sshd_config" <<CONFIG
ListenAddress 127.0.0.1
Port $4
HostKey $3/host_key
AuthorizedKeysFile $3/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
MaxStartups 100
UsePAM no
PidFile none
CONFIG
  printf '[127.0.0.1]:%s %s\n' "$4" "$(cat "$3/host_key.pub")" >"$3/known_hosts"
  cat >"$3/ssh_config" <<CONFIG
Host *
  IdentityFile $3/key
  IdentitiesOnly yes
  UserKnownHostsFile $3/known_hosts
  StrictHostKeyChecking yes
CONFIG
  start_daemon "$1" "$2" /usr/sbin/sshd -D -e -f "$3/sshd_config"
  if ! wait_until 20 ssh -F "$3/ssh_config" -p "$4" root@127.0.0.1 true; then
    tail -n 20 "$2" >&2
    stop_daemon "$1" 5
    die "the ssh server did not come up on port $4; its log is $2"
  fi
}

# start_registry PIDFILE LOG FOLDER HOST:PORT   Debian's docker-registry, with deletion allowed.
start_registry() {
  mkdir -p "$3/data"
  cat >"$3/config.yml" <<CONFIG
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $3/data}, delete: {enabled: true}}
http: {addr: "$4"}
CONFIG
  start_daemon "$1" "$2" docker-registry serve "$3/config.yml"
  if ! wait_until 20 curl -sf -m 5 "http://$4/v2/"; then
    tail -n 20 "$2" >&2
    stop_daemon "$1" 5
    die "the registry did not come up on $4; its log is $2"
  fi
}
