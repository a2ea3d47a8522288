#!/bin/sh
# Make the image debian:bookworm-slim from Debian's packages, for engines that can pull nothing.
#
#   base-image.sh [--force] [TAG]
#
# It prints the name of the image. The same recipe (this script, suite, packages, release date) is
# made once for an engine: it is found again by the label skep.base. An image of that name which
# somebody pulled is used as it is and never overwritten. Needs root, debootstrap and docker.
#
# Settings, all from the environment:
#   SKEP_BASE_SUITE      bookworm
#   SKEP_BASE_MIRROR     where Debian's packages are [where this machine's apt has them from]
#   SKEP_BASE_SECURITY   where their security updates are [apt's, else the mirror's sibling]
#   SKEP_BASE_PACKAGES   more packages for the image, separated by commas
#   SKEP_BASE_KEYRING    the keys that the mirror's release is signed with [debootstrap's own]
#   http_proxy, https_proxy, no_proxy, SSL_CERT_FILE: how this machine reaches the mirror
set -eu
umask 022
PATH=$PATH:/usr/sbin

# Where apt has a suite from; of another suite's mirror, if it knows none for this one.
apt_source() {
  command -v apt-get >/dev/null || return 0
  apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 2>/dev/null |
    sed -n "s|^$1 \\(.*[^/]\\)/*\$|\\1|p" | head -n 1
}

suite=${SKEP_BASE_SUITE:-bookworm}
mirror=${SKEP_BASE_MIRROR:-$(apt_source "$suite")}
mirror=${mirror:-$(apt_source '[a-z]*')}
security=${SKEP_BASE_SECURITY:-$(apt_source "$suite-security")}
security=${security:-$mirror-security}
packages=${SKEP_BASE_PACKAGES:-}
keyring=${SKEP_BASE_KEYRING:-}
force=
if [ "${1:-}" = --force ]; then
  force=yes
  shift
fi
tag=${1:-debian:$suite-slim}

say() { echo "base-image: $*" >&2; }
fail() {
  say "$1"
  say "hint: $2"
  exit 1
}

label_of() { docker image inspect --format '{{index .Config.Labels "skep.base"}}' "$1" 2>/dev/null; }

# The release's own date changes with its content; without a mirror at hand what is there will do.
release_date() {
  fetch "$mirror/dists/$suite/InRelease" | sed -n 's/^Date: //p' | head -n 1
}

fetch() {
  if command -v curl >/dev/null; then
    curl --silent --fail --location --max-time 20 ${SSL_CERT_FILE:+--cacert "$SSL_CERT_FILE"} "$1"
  else
    wget --quiet --timeout 20 --tries 1 ${SSL_CERT_FILE:+--ca-certificate="$SSL_CERT_FILE"} \
      --output-document - "$1"
  fi
}

command -v docker >/dev/null || fail "there is no docker command" "apt-get install docker.io"
docker version >/dev/null 2>&1 || fail "the Docker engine does not answer" \
  "start it (dockerd, or systemctl start docker); DOCKER_HOST says where it is"

arch=$(dpkg --print-architecture 2>/dev/null || echo unknown)
recipe=$(
  { cat "$0"; echo "$suite $arch $mirror $security $packages"; } | sha256sum | cut -c1-16
)
if docker image inspect "$tag" >/dev/null 2>&1; then
  label=$(label_of "$tag")
  if [ -z "$label" ] || [ "$label" = "<no value>" ]; then
    say "$tag is there already, and not of this script's making: left as it is"
    echo "$tag"
    exit 0
  fi
fi
date=$(release_date || true)
digest="$recipe ${date:-of an unknown date}"
if [ -z "$force" ] && [ -n "${label:-}" ]; then
  if [ "$label" = "$digest" ] || { [ -z "$date" ] && [ "${label%% *}" = "$recipe" ]; }; then
    say "$tag is there already ($label)"
    echo "$tag"
    exit 0
  fi
fi

[ -n "$mirror" ] || fail "this machine's apt names no mirror of Debian" "set SKEP_BASE_MIRROR to one"
[ -n "$date" ] || fail "$mirror has no suite $suite, or cannot be reached" \
  "set SKEP_BASE_MIRROR to a mirror that this machine reaches, and http_proxy if it needs one"
[ "$(id -u)" = 0 ] || fail "only root can make a Debian system from packages" \
  "run it with sudo, or load an image made elsewhere: docker save $tag | … | docker load"
command -v debootstrap >/dev/null || fail "there is no debootstrap" "apt-get install debootstrap"

work=$(mktemp -d "${TMPDIR:-/tmp}/skep-base-XXXXXX")
cleanup() { rm -rf --one-file-system "$work"; }
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
root=$work/root

# debootstrap fetches with wget, which is told of an authority by its settings only.
if [ -n "${SSL_CERT_FILE:-}" ] && [ -z "${WGETRC:-}" ]; then
  echo "ca_certificate = $SSL_CERT_FILE" >"$work/wgetrc"
  export WGETRC="$work/wgetrc"
fi

say "making $tag from $mirror ($suite, $arch): about a minute"
debootstrap --variant=minbase ${packages:+--include="$packages"} ${keyring:+--keyring="$keyring"} \
  "$suite" "$root" "$mirror" >"$work/log" 2>&1 || {
  tail -n 20 "$work/log" >&2
  fail "debootstrap failed" "above is the end of what it said"
}

# As the official slim image: no documents, manuals or translations, now or by later installs.
cat >"$root/etc/dpkg/dpkg.cfg.d/docker" <<'CONFIG'
force-unsafe-io
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/groff/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/linda/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
CONFIG
cat >"$root/etc/apt/apt.conf.d/docker" <<'CONFIG'
APT::Install-Recommends "false";
APT::AutoRemove::SuggestsImportant "false";
Acquire::Languages "none";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
CONFIG
# No service can start in a container that only installs.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
cat >"$root/etc/apt/sources.list" <<SOURCES
deb $mirror $suite main
deb $mirror $suite-updates main
deb $security $suite-security main
SOURCES
find "$root/usr/share/doc" -mindepth 2 -not -name copyright -not -type d -delete
find "$root/usr/share/doc" -mindepth 1 -type d -empty -delete
for gone in man info groff lintian linda; do
  rm -rf "$root/usr/share/$gone"
done
find "$root/usr/share/locale" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin \
  "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/cache/ldconfig/aux-cache \
  "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/etc/*-
find "$root/var/log" -type f -delete
: >"$root/etc/machine-id"

# Sorted and of one date, so that the same packages make the same layer.
tar --create --file "$work/image.tar" --directory "$root" --numeric-owner --sort=name \
  --mtime="$date" --one-file-system .
replaced=$(docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null || true)
docker import --change 'CMD ["bash"]' --change "LABEL skep.base=\"$digest\"" \
  "$work/image.tar" "$tag" >/dev/null
# What it replaces goes, unless other images are made of it.
[ -z "$replaced" ] || docker image rm "$replaced" >/dev/null 2>&1 || true
say "$tag is made ($digest)"
echo "$tag"
