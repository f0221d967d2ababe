#!/bin/sh
# Makes the image `gantry` (or NAME) of docker: this working copy without what only its development needs, and the
# programs that a node runs, as Debian installed them on this machine, with the libraries they load. Nothing is fetched.
#
#   sh tools/compose/image.sh [NAME]      DOCKER_HOST says where it goes
set -eu
cd "$(dirname "$0")/../.."

PROGRAMS='runc crun conmon catatonit nats-server busybox iptables unshare'
FOLDERS='/usr/lib/cni /usr/lib/*/xtables /usr/lib/*/libisal.so.2 /etc/ssl/certs /usr/share/ca-certificates'

main() {
  node apps/cli/build.mjs
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc/gantry" "$root/root" "$root/run" "$root/tmp" "$root/var/lib"
  for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
  for program in $PROGRAMS; do installed "$program"; done
  for applet in $(busybox --list); do [ -e "$root/usr/bin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"; done
  # shellcheck disable=SC2086
  for folder in $FOLDERS; do [ ! -e "$folder" ] || copy "$folder"; done
  application
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\n' >"$root/etc/group"
  printf '[tasks]\nconmon = "/gantry/tools/compose/monitor.sh"\n' >"$root/etc/gantry/gantry.toml"
  libraries
  tar -C "$root" -c . | docker import \
    --change 'ENV PATH=/gantry/node_modules/.bin:/usr/sbin:/usr/bin' \
    --change 'ENTRYPOINT ["/gantry/tools/compose/start.sh"]' - "${1:-gantry}"
}

# A program under its name, although Debian may choose it by links. crun and catatonit are needed by some only.
installed() {
  path=$(command -v "$1") || {
    echo "$1 is not installed and will be missing in the image" >&2
    return
  }
  copy "$(readlink -f "$path")"
  [ -e "$root/$path" ] || ln -s "$(readlink -f "$path")" "$root/usr/bin/$1"
}

application() {
  mkdir "$root/gantry"
  cp -a package.json apps libs "$root/gantry"
  mkdir -p "$root/gantry/tools" && cp -a tools/compose "$root/gantry/tools"
  npm ls --omit=dev --all --parseable | sed -n "s|^$PWD/||p" | grep node_modules/ | xargs cp -a --parents -t "$root/gantry"
  cp -a --parents node_modules/@gantry node_modules/.bin/node "$root/gantry"
}

# Whatever the programs and the native parts of packages load.
libraries() {
  find "$root" -type f \( -perm -100 -o -name '*.so*' -o -name '*.node' \) -exec ldd {} + 2>/dev/null |
    sed -n 's|^\t\(.* => \)\{0,1\}\(/[^ ]*\) (.*|\2|p' | sort -u | while read -r library; do copy "$library"; done
}

copy() {
  mkdir -p "$root$(dirname "$1")"
  cp -aL "$1" "$root$(dirname "$1")/"
}

main "$@"
