#!/bin/sh
# The first program of the platform's image. A worker needs the group that the engine's socket has on this
# host, which no image can know: started as root, this joins that group and is root no more.
#
# SKEP_TOKEN_FILE names a file that has the token, as Swarm and others show secrets.
set -eu
if [ -n "${SKEP_TOKEN_FILE:-}" ]; then
  SKEP_TOKEN=$(cat "$SKEP_TOKEN_FILE")
  export SKEP_TOKEN
fi
if [ "$(id -u)" = 0 ]; then
  socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
  socket=${socket#unix://}
  groups=--clear-groups
  [ ! -S "$socket" ] || groups=--groups=$(stat --dereference --format %g "$socket")
  exec setpriv --reuid=skep --regid=skep "$groups" --inh-caps=-all --no-new-privs "$@"
fi
# Not every orchestrator can ask an engine for that; whoever is not root can.
exec setpriv --no-new-privs "$@"
