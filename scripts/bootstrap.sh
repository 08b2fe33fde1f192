#!/bin/sh
# Makes a machine ready to build, test and demonstrate swarmd. Says what it does; does nothing when
# nothing is missing. It may run before node_modules exists, so it is plain sh.
#
#   sh scripts/bootstrap.sh [lab] [node]     only these parts; both by default
#
#   lab    root, and Debian packages for hosts with Engines of their own
#   node   Node.js, and node_modules as package-lock.json says
set -eu

NODE_MIN_MAJOR=20
NODE_MIN_MINOR=12
# Programs live in sbin as well, which a user's PATH may leave out.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
POLICY=/usr/sbin/policy-rc.d
LISTS=/var/lib/apt/lists

cd "$(dirname "$0")/.."

say() { printf 'bootstrap: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# One "program package" a line. Debian 13 has Docker's command line in a package of its own.
programs() {
  cat <<LIST
dockerd docker.io
docker $(docker_cli_package)
iptables iptables
nft nftables
ip iproute2
nsenter util-linux
unshare util-linux
mountpoint util-linux
ps procps
sysctl procps
conntrack conntrack
wg wireguard-tools
wireguard-go wireguard-go
curl curl
openssl openssl
git git
LIST
}

docker_cli_package() {
  if has docker || ! has apt-cache; then echo docker.io; return; fi
  if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; else echo docker.io; fi
}

# Images are made of busybox alone, so it must not need libraries.
has_static_busybox() {
  for path in /bin/busybox /usr/bin/busybox; do
    if [ -x "$path" ] && ! ldd "$path" >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

# One of the clients that the tests drive a swarm with; Debian's packages are for its own Python.
has_docker_py() {
  for python in /usr/bin/python3 python3; do
    if "$python" -c 'import docker' >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

missing_packages() {
  {
    programs | while read -r program package; do
      has "$program" || echo "$package"
    done
    has_static_busybox || echo busybox-static
    has_docker_py || echo python3-docker
  } | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# Packages of daemons start them when installed; policy-rc.d (invoke-rc.d(8)) says no.
forbid_starts() {
  if [ -x "$POLICY" ] && ! "$POLICY" docker start >/dev/null 2>&1; then return; fi
  if [ -e "$POLICY" ]; then mv "$POLICY" "$POLICY.swarmd-saved"; fi
  trap allow_starts EXIT
  trap 'exit 130' INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$POLICY"
  chmod 755 "$POLICY"
}

allow_starts() {
  rm -f "$POLICY"
  if [ -e "$POLICY.swarmd-saved" ]; then mv "$POLICY.swarmd-saved" "$POLICY"; fi
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y "$@" >"$apt_log" 2>&1; }

update_lists() {
  say "updating the package lists"
  apt update || { tail -n 20 "$apt_log" >&2; die "apt-get update failed"; }
}

install_packages() {
  apt_log=$(mktemp)
  forbid_starts
  if ! ls "$LISTS"/*_Packages* >/dev/null 2>&1; then
    update_lists
    # What a package is called may only be known now.
    set -- $(missing_packages)
  fi
  say "installing $* (nothing is started)"
  if ! apt install --no-install-recommends "$@"; then
    update_lists
    if ! apt install --no-install-recommends "$@"; then
      tail -n 20 "$apt_log" >&2
      die "apt-get could not install: $*"
    fi
  fi
  rm -f "$apt_log"
}

prepare_lab() {
  missing=$(missing_packages)
  if [ "$(id -u)" != 0 ]; then
    [ -z "$missing" ] || say "missing Debian packages: apt-get install $missing"
    die "the lab makes namespaces and network devices: run this as root (sudo)"
  fi
  [ -n "$missing" ] || return 0
  has apt-get || die "no apt-get here: install what these Debian packages hold: $missing"
  # Words of a list made above.
  # shellcheck disable=SC2086
  install_packages $missing
  missing=$(missing_packages)
  [ -z "$missing" ] || die "installed, but still missing: $missing"
}

check_node() {
  wanted="Node.js $NODE_MIN_MAJOR.$NODE_MIN_MINOR or newer with npm"
  has node || die "$wanted is needed, none is installed: see https://nodejs.org/en/download"
  has npm || die "$wanted is needed, npm is missing: see https://nodejs.org/en/download"
  version=$(node -p process.versions.node)
  major=${version%%.*}
  minor=${version#*.}
  minor=${minor%%.*}
  if [ "$major" -gt "$NODE_MIN_MAJOR" ]; then return; fi
  if [ "$major" -eq "$NODE_MIN_MAJOR" ] && [ "$minor" -ge "$NODE_MIN_MINOR" ]; then return; fi
  die "$wanted is needed, $version is installed: see https://nodejs.org/en/download"
}

# Compares what npm wrote down of its last installation with the lock file. Optional packages are
# those of other platforms.
modules_are_right() {
  [ -f node_modules/.package-lock.json ] || return 1
  node -e '
    const read = path => JSON.parse(require("fs").readFileSync(path, "utf8")).packages;
    const [locked, present] = [read("package-lock.json"), read("node_modules/.package-lock.json")];
    const right = ([path, { version, optional, devOptional }]) =>
      path === "" || (path in present ? present[path].version === version : optional || devOptional);
    process.exit(Object.entries(locked).every(right) ? 0 : 1);
  '
}

prepare_node() {
  check_node
  if modules_are_right; then return; fi
  say "installing node_modules (npm ci)"
  npm ci --no-audit --no-fund --loglevel=error || die "npm ci failed"
}

if [ $# -eq 0 ]; then set -- lab node; fi
for part in "$@"; do
  case $part in
    lab | node) ;;
    *) say "unknown part '$part': lab or node"; exit 2 ;;
  esac
done
for part in "$@"; do "prepare_$part"; done
