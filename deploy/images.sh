#!/bin/sh
# Make the images that docker-compose.yml names: the platform's, and a registry's where registry:2 is not here
# and cannot be pulled. Prints the settings to bring it up with, one NAME=VALUE a line; all else on stderr.
#
#   deploy/images.sh [RUNTIME…] >.env && docker-compose up --detach        (or: make image)
#
# The images of runtimes (python, node, …: folders of runtimes/) are made if they are not here; they have the
# names that `skep runtime build` gives them.
#
# Settings, all from the environment:
#   SKEP_IMAGE, SKEP_REGISTRY_IMAGE   what they are called [skep, registry:2]
#   SKEP_BUILD_BASE     what they are made of [debian:bookworm-slim, made from packages if it cannot be pulled]
#   SKEP_CA_BUNDLE      authorities to trust meanwhile [those that this machine's administrator added]
#   SKEP_INDEX_URL      where pip finds packages [PyPI]
#   http_proxy, https_proxy, no_proxy, and those of runtimes/base-image.sh
set -eu
cd "$(dirname "$0")/.."

say() { echo "images: $*" >&2; }
here() { docker image inspect "$1" >/dev/null 2>&1; }
got() { here "$1" || timeout 60 docker pull --quiet "$1" >/dev/null 2>&1; }

image=${SKEP_IMAGE:-skep}
registry=${SKEP_REGISTRY_IMAGE:-registry:2}
base=${SKEP_BUILD_BASE:-debian:bookworm-slim}
if ! got "$base"; then
  say "$base is neither here nor can it be pulled: it is made from Debian packages"
  sh runtimes/base-image.sh "$base" >/dev/null
fi
# The whole of a system's list would be too long a word for a build; the image has the public ones.
if [ -n "${SKEP_CA_BUNDLE:-}" ]; then
  authorities=$(cat "$SKEP_CA_BUNDLE")
else
  authorities=$(cat /usr/local/share/ca-certificates/*.crt 2>/dev/null || true)
fi
runtimes=$*
set --
for name in http_proxy https_proxy no_proxy; do
  eval "value=\${$name:-}"
  [ -z "$value" ] || set -- "$@" --build-arg "$name=$value"
done
set -- "$@" --network host --build-arg "BASE=$base"

say "$image"
docker build "$@" --build-arg "CA=$authorities" --build-arg "INDEX_URL=${SKEP_INDEX_URL:-}" \
  --tag "$image" . >&2
if ! got "$registry"; then
  say "$registry is neither here nor can it be pulled: skep-registry is made from Debian packages"
  registry=skep-registry
  docker build "$@" --tag "$registry" deploy/registry >&2
fi
for runtime in $runtimes; do
  made=${runtime}runtime
  here "$made" && continue
  say "$made"
  docker build "$@" --build-arg "CA=$authorities" --tag "$made" "runtimes/$runtime" >&2
done
echo "SKEP_IMAGE=$image"
echo "SKEP_REGISTRY_IMAGE=$registry"
