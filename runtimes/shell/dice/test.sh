# Roll dice: {"roll": "4d6"} on stdin, the numbers as JSON on stdout.
set -eu
params=$(cat)
roll=$(printf '%s' "$params" | sed -n 's/.*"roll" *: *"\([0-9]\{1,4\}d[0-9]\{1,7\}\)".*/\1/p')
if [ -z "$roll" ]; then
  echo "\"roll\" must look like \"4d6\" (how many dice, d, sides), not $params" >&2
  exit 1
fi
awk -v dice="${roll%d*}" -v sides="${roll#*d}" -v seed="$(od -An -N4 -tu4 /dev/urandom)" 'BEGIN {
  srand(seed)
  for (i = 1; i <= dice; i++) printf "%s%d", (i > 1 ? "," : "["), int(rand() * sides) + 1
  print "]"
}'
