#!/usr/bin/env bash
# Makes the Debian package: a static binary, manual pages, completions for bash, zsh and fish.
#
#   dist/package.sh    leaves target/dist/shipway_VERSION_ARCHITECTURE.deb
#
# The binary is built for musl, so that it runs on every Linux of its architecture, and must not be larger than
# 15 MB. Needs Debian's packages gcc, libc6-dev and musl-tools (as root they are installed), the target of
# rustup, and cargo-deb; the last two are installed where they are missing.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/setup.sh

target=$(uname -m)-unknown-linux-musl
dist=target/dist
largest=15000000

tools() {
  command -v musl-gcc >/dev/null || install_packages gcc libc6-dev musl-tools
  need_rust
  PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup target add "$target"
  command -v cargo-deb >/dev/null ||
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=target/cargo-deb cargo install cargo-deb --locked --debug
}

# No path of this machine stays in the binary, and the C parts are musl's as well. A panic ends the program, so
# that tables for unwinding serve nobody; Rust's own linker keeps equal functions once.
build() {
  local folder=${CARGO_HOME:-$HOME/.cargo} compiler=CC_${target//-/_} host linker
  host=$(rustc -vV | sed -n 's/^host: //p')
  linker=$(rustc --print sysroot)/lib/rustlib/$host/bin/gcc-ld
  env "$compiler=musl-gcc" \
    RUSTFLAGS="-C force-unwind-tables=no --remap-path-prefix=$folder=/cargo --remap-path-prefix=$PWD=/shipway" \
    cargo rustc --locked --release --bin shipway --target "$target" -- \
    -C link-arg="-B$linker" -C link-arg=-fuse-ld=lld -C link-arg=-Wl,--icf=all \
    -C link-arg=-Wl,--no-eh-frame-hdr -C link-arg="-Wl,-T,$PWD/dist/no-unwind.ld"
  binary=target/$target/release/shipway
}

check_size() {
  local size
  size=$(stat -c %s "$binary")
  say "the binary has $size bytes"
  [ "$size" -le $largest ] || die "that is more than $largest: see the profile release in Cargo.toml"
}

# What the binary says of itself; where the package has each file stands in Cargo.toml.
generate() {
  rm -rf "$dist"
  mkdir -p "$dist/man" "$dist/completions"
  "$binary" manual "$dist/man"
  "$binary" completion bash >"$dist/completions/shipway"
  "$binary" completion zsh >"$dist/completions/_shipway"
  "$binary" completion fish >"$dist/completions/shipway.fish"
}

# The times in the package are those of the commit, so that it has the same bytes each time.
package() {
  SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
  export SOURCE_DATE_EPOCH
  cargo deb --locked --no-build --no-strip --target "$target" --output "$dist/"
}

tools
build
check_size
generate
package
say "made $(ls $dist/*.deb)"
