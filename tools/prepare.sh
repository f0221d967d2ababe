#!/bin/sh
# Installs what a fresh Debian 12 lacks, says so before, and is silent and quick when nothing is missing.
#
#   sh tools/prepare.sh demo|test|bench|start
#
# Needs root, git, node 20 or later, npm. Services that come with the packages are not started.
set -eu
cd "$(dirname "$0")/.."

RUNNING='runc crun conmon libisal2 nats-server catatonit'    # what a node needs
FIXTURE='docker-registry busybox-static'                     # what the demo's image is made of and pulled from
BENCHING='nghttp2-client'                                     # the client that benches of the API use
TESTING='containerd docker.io docker-compose skopeo umoci openssl iproute2 containernetworking-plugins iptables zstd procps python3-minimal' # what Gantry is compared with and looked at with

POLICY=/usr/sbin/policy-rc.d

main() {
  case "${1:-}" in
    start) packages="$RUNNING" ;;
    demo) packages="$RUNNING $FIXTURE" ;;
    test) packages="$RUNNING $FIXTURE $TESTING" ;;
    bench) packages="$RUNNING $FIXTURE $TESTING $BENCHING" ;;
    *) fail "usage: sh tools/prepare.sh start|demo|test|bench" ;;
  esac
  [ "$(uname -s)" = Linux ] || fail "Gantry runs containers: it needs Linux, this is $(uname -s)"
  [ "$(id -u)" = 0 ] || fail "Gantry mounts file systems and makes cgroups: run this as root"
  debian_packages "$packages"
  npm_packages
}

debian_packages() {
  command -v dpkg-query >/dev/null || {
    echo "This is not Debian: install the like of these yourself: $1" >&2
    return
  }
  missing=
  for package in $1; do
    installed "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  echo "Installing Debian packages:$missing"
  trap 'no_more_policy' EXIT
  trap 'exit 1' HUP INT TERM
  # tells package scripts to start no service; one that was killed may have left its own
  { [ -e $POLICY ] && ! grep -qs 'made by gantry' $POLICY; } || {
    printf '#!/bin/sh\n# made by gantry tools/prepare.sh, removed at its end\nexit 101\n' >$POLICY
    chmod 755 $POLICY
    policy_made=yes
  }
  # shellcheck disable=SC2086
  apt_install $missing || {
    apt-get update -qq
    apt_install $missing
  }
  no_more_policy
  trap - EXIT HUP INT TERM
}

# --no-remove: busybox and busybox-static exclude each other; taking a package away is not ours to decide
apt_install() {
  said=$(mktemp)
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove -o Dpkg::Use-Pty=0 "$@" >"$said" 2>&1 || {
    status=$?
    tail -n 15 "$said" >&2
    rm -f "$said"
    return $status
  }
  rm -f "$said"
}

no_more_policy() {
  [ "${policy_made:-}" != yes ] || rm -f $POLICY
}

installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

npm_packages() {
  node tools/installed.mjs || {
    echo "Installing npm packages (npm ci)"
    npm ci --no-audit --no-fund --loglevel=error
  }
  node apps/cli/build.mjs # where sources have changed since
}

fail() {
  echo "$*" >&2
  exit 1
}

main "$@"
