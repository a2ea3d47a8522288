#!/bin/bash
# The agent of shell sandboxes: one file, bash 4.4 or later, coreutils and util-linux.
#
# `agent.sh SOCKET` is the first process of a sandbox. It connects twice to the miniworker that
# listens there (docs/protocol.md, "Miniworker and agent"; `-` for SOCKET is its stdin and stdout)
# and runs each call as a process of its own. A shell cannot open such a connection: perl, which
# every Debian has, opens both and becomes this shell again (`agent.sh --connected HELPER`, with
# control as 3 and data as 4). Over stdio both come in as one, and a helper that perl leaves behind
# takes them apart; what goes out is 10. There are no handlers: nothing of a shell could be loaded
# once. As the first process of its namespace, bash reaps what
# lost its parent.
#
#   miniworker == control ==> the watcher, which writes what it hears into the pipe of events
#        ||                        |
#        `======= data ====> this shell <-- events: "kill ATTEMPT", "ended STATUS", "gone"
#                                  `- the runner, which waits for the call's process
# shellcheck disable=SC2034,SC2317
set -u
shopt -s dotglob nullglob
LC_ALL=C

if [[ $1 != --connected ]]; then
  # shellcheck disable=SC2016 # it is perl's
  exec perl -e '
    use strict; use Socket qw(PF_UNIX SOCK_STREAM sockaddr_un); use POSIX ();
    my ($agent, $path) = @ARGV;
    my ($helper, @both, @ends) = (0);
    sub connected {
      my ($folder, $name) = $path =~ m{(.*)/(.*)};
      chdir $folder or die "$folder: $!";
      map { socket my $s, PF_UNIX, SOCK_STREAM, 0; connect $s, sockaddr_un($name)
        or die "$path: $!"; $s } 1, 2;
    }
    sub exactly {
      my ($size, $got) = (@_, "");
      while (length $got < $size) {
        sysread STDIN, $got, $size - length $got, length $got or POSIX::_exit(0);
      }
      $got;
    }
    sub take_apart {    # a whole frame at a time, by what it is
      POSIX::close($_) for 1, 10;
      close $_ for @both;
      $SIG{PIPE} = "IGNORE";
      while (1) {
        my $lengths = exactly(8);
        my ($header, $body) = map { exactly($_) } unpack "NN", $lengths;
        my $left = $lengths . $header . $body;
        my $end = $ends[$header =~ /^\{"type":"call"/ ? 1 : 0];
        while (length $left) { substr $left, 0, syswrite($end, $left) || POSIX::_exit(0), "" }
      }
    }
    if ($path eq "-") {
      POSIX::dup2(1, 10) or die $!;
      pipe $both[$_], $ends[$_] or die $! for 0, 1;
      $helper = fork // die $!;
      take_apart() if !$helper;
      close $_ for @ends;
      open STDIN, "<", "/dev/null"; open STDOUT, ">&", \*STDERR;
    } else { @both = connected() }
    POSIX::dup2(fileno $both[$_], 20 + $_) or die $! for 0, 1;
    POSIX::dup2(20 + $_, 3 + $_) for 0, 1;
    POSIX::close(20 + $_) for 0, 1;
    exec "/bin/bash", $agent, "--connected", $helper or die $!' "$0" "$1"
fi

# Takes stdin apart, where that is the connection; 0 if there is none.
readonly helper=${2:-0}
readonly PARAMS_IN_ENV_BYTES=$((64 << 10)) CONTROL=3 DATA=4 STDIO=10
# What makes a command one for sh instead of a plain list of words.
readonly SHELL_WORDS='[]|&;<>()$`*?{}~#\"[]|^([A-Za-z0-9_]+=|(exec|cd|export|set|umask|ulimit)( |$))'
# In a pid namespace of its own all other processes are the function's.
alone=
[[ $$ == 1 ]] && alone=yes

# --- frames ---------------------------------------------------------------------------------

# Read two lengths and a JSON object from a descriptor: into $body_bytes and $header.
take() {
  local byte number numbers=()
  for _ in 1 2 3 4 5 6 7 8; do
    IFS= read -r -d '' -n 1 -u "$1" byte || return 1
    printf -v number %d "'$byte"
    numbers+=("$((number & 255))")
  done
  local bytes=$((numbers[0] << 24 | numbers[1] << 16 | numbers[2] << 8 | numbers[3]))
  body_bytes=$((numbers[4] << 24 | numbers[5] << 16 | numbers[6] << 8 | numbers[7]))
  IFS= read -r -N "$bytes" -u "$1" header || return 1
}

# What is written where a connection comes in: into $outlet.
find_outlet() {
  outlet=$1
  ((helper)) && outlet=$STDIO || true
}

# Send a frame: descriptor, header, and how many bytes follow.
put() {
  local size format='' number outlet
  find_outlet "$1"
  for size in "${#2}" "$3"; do
    printf -v number '\\x%02x\\x%02x\\x%02x\\x%02x' $((size >> 24 & 255)) $((size >> 16 & 255)) \
      $((size >> 8 & 255)) $((size & 255))
    format+=$number
  done
  # shellcheck disable=SC2059 # the lengths are bytes, and some of them are zero
  { printf "$format" && printf %s "$2"; } >&"$outlet"
}

# The string that begins at $rest, behind its quote: into $text, and $rest goes on behind it.
string() {
  local piece slashes
  text=
  while :; do
    piece=${rest%%\"*}
    rest=${rest:${#piece}+1}
    text+=$piece
    slashes=${piece##*[!\\]}
    ((${#slashes} % 2)) || break
    text+=\"
  done
  [[ $text != *\\* ]] || plain
}

# Undo the escapes of $text.
plain() {
  local from=$text letter
  text=
  while [[ $from == *\\* ]]; do
    text+=${from%%\\*}
    from=${from#*\\}
    letter=${from:0:1}
    from=${from:1}
    case $letter in
      n) text+=$'\n' ;;
      t) text+=$'\t' ;;
      r) text+=$'\r' ;;
      b) text+=$'\b' ;;
      f) text+=$'\f' ;;
      u)
        # shellcheck disable=SC2059 # only control characters come so
        printf -v letter "\\x${from:2:2}"
        text+=$letter
        from=${from:4}
        ;;
      *) text+=$letter ;;
    esac
  done
  text+=$from
}

# A field of $header that is a string: into $text.
field() {
  text=
  [[ $header == *"\"$1\":\""* ]] || return 0
  local rest=${header#*"\"$1\":\""}
  string
}

# What $header's env names: appended to the array pairs.
pairs_of_env() {
  local rest=${header#*\"env\":\{} name
  while [[ ${rest:0:1} == \" ]]; do
    rest=${rest:1}
    string
    name=$text
    rest=${rest:2}
    string
    pairs+=("$name=$text")
    rest=${rest#,}
  done
}

# A text as the inside of a JSON string: into $quoted.
quote() {
  quoted=${1//\\/\\\\}
  quoted=${quoted//\"/\\\"}
  quoted=${quoted//$'\n'/\\n}
  quoted=${quoted//[$'\001'-$'\037']/ }
}

# --- processes ------------------------------------------------------------------------------

is_ours() {
  [[ $1 == "$watcher" || $1 == "$helper" ]]
}

# All that is in the sandbox and is neither this shell nor its watcher: into the array others.
list_others() {
  local place line state parent pids=() parents=() known=" $$ " grown=yes i
  others=()
  [[ $PPID -gt 1 ]] && known+="$PPID "
  for place in /proc/[0-9]*; do
    { IFS= read -r line <"$place/stat"; } 2>/dev/null || continue
    read -r state parent _ <<<"${line##*) }"
    [[ $state == [ZX] || ${place#/proc/} == "$$" ]] && continue
    pids+=("${place#/proc/}")
    parents+=("$parent")
  done
  if [[ $alone ]]; then
    for i in "${!pids[@]}"; do
      is_ours "${pids[i]}" || others+=("${pids[i]}")
    done
    return
  fi
  # Without a namespace: what comes of this shell, and the orphans, whom the miniworker has.
  while [[ $grown ]]; do
    grown=
    for i in "${!pids[@]}"; do
      if [[ $known == *" ${parents[i]} "* && $known != *" ${pids[i]} "* ]]; then
        known+="${pids[i]} "
        grown=yes
        is_ours "${pids[i]}" || others+=("${pids[i]}")
      fi
    done
  done
}

# End all of a call; fails if something cannot be ended.
clear_others() {
  for _ in {1..100}; do
    list_others
    ((${#others[@]})) || return 0
    kill -KILL "${others[@]}" 2>/dev/null
    sleep 0.002
  done
  return 1
}

leave() {
  trap - TERM
  list_others
  kill -KILL "$watcher" "${others[@]}" 2>/dev/null
  ((helper)) && kill -KILL "$helper" 2>/dev/null
  exit 0
}

watch() {
  while take $CONTROL; do
    [[ $header =~ \"attempt\":([0-9]+) ]] && echo "kill ${BASH_REMATCH[1]}" >&7
  done
  echo gone >&7
  kill -TERM $$
}

# --- folders --------------------------------------------------------------------------------

# Make the path as a call finds it: links to the bundle's top entries, and nothing else.
lay_out() {
  local entry name
  [[ $bundle != "$path" ]] || return 0
  for entry in "$path"/*; do
    name=${entry##*/}
    [[ -L $entry && -e $bundle/$name && $entry -ef $bundle/$name ]] || remove "$entry" || return 1
  done
  for entry in "$bundle"/*; do
    name=${entry##*/}
    [[ -L $path/$name ]] || ln -s "$entry" "$path/$name" || return 1
  done
}

# Remove a file or a folder, whatever modes a call left in it.
remove() {
  rm -rf -- "$1" 2>/dev/null
  [[ ! -e $1 && ! -L $1 ]] || { chmod -R u+rwX -- "$1" && rm -rf -- "$1"; }
}

tidy() {
  local entry
  lay_out || return 1
  for entry in "$scratch"/*; do
    remove "$entry" || return 1
  done
  [[ $alone ]] || return 0
  for entry in /dev/shm/*; do
    remove "$entry" || return 1
  done
}

# --- calls ----------------------------------------------------------------------------------

broken() {
  quote "$3"
  put $CONTROL '{"type":"broken","fault":"'"$1"'","code":"'"$2"'","message":"'"$quoted"'"}' 0
  leave
}

# The words of the command into the array argv; one that means something to a shell is for sh.
read_command() {
  local unquoted=$run
  while [[ $unquoted =~ ^([^\']*)\'[^\']*\'(.*)$ ]]; do
    unquoted=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
  done
  if [[ $unquoted =~ $SHELL_WORDS || $unquoted == *$'\n'* ]]; then
    argv=(/bin/sh -c "$run")
  else
    # Nothing in it means anything now but spaces and single quotes.
    eval "argv=($run)" 2>/dev/null || broken function command_not_found "run: no such words: $run"
  fi
}

# Why the command cannot be run: into $missing; empty if it can.
look_up() {
  local program=${argv[0]} file line reason="No such file or directory"
  missing=
  file=$program
  [[ $program == */* ]] || file=$(PATH=$program_path type -P -- "$program")
  if [[ ! -f $file ]]; then
    missing="the command '$program' cannot be run: $reason"
  elif [[ ! -x $file ]]; then
    missing="the command '$program' cannot be run: Permission denied: is it executable?"
    missing+=" chmod +x it before packing"
  elif IFS= read -r -N 2 line <"$file" && [[ $line == '#!' ]]; then
    read -r line <"$file"
    line=${line#'#!'}
    read -r line _ <<<"$line"
    [[ -e $line ]] || missing="the command '$program' cannot be run: $reason: what its #! line"
    [[ -e $line ]] || missing+=" names is not there"
  fi
}

# Run the call's process and say how it ended: this is a process beside the shell's own.
run_call() {
  local status child
  exec 3>&- 4>&- 10>&-
  env -i "${pairs[@]}" setsid "${argv[@]}" <&8 >&5 2>&6 5>&- 6>&- 7>&- 8<&- 9>&- &
  child=$!
  exec 5>&- 6>&- 8<&-
  # bash says what a process died of, and nothing of one that exited with such a number.
  { wait "$child"; status=$?; } 2>&9
  exec 2>&9
  echo "ended $status" >&7
}

# Open a file that has no name any more: descriptor, then another one to read it by.
open_file() {
  local name=$scratch/.skep-$RANDOM$RANDOM
  (set -o noclobber; : >"$name") 2>/dev/null || return 1
  eval "exec $1<>\"$name\""
  rm -f -- "$name"
}

begin_call() {
  [[ $header =~ \"attempt\":([0-9]+) ]] && attempt=${BASH_REMATCH[1]}
  [[ $header =~ \"timeoutMs\":([0-9]+) ]] && local timeout_ms=${BASH_REMATCH[1]}
  local params=$scratch/skep-params-$RANDOM$RANDOM$RANDOM.json
  head -c "$body_bytes" <&$DATA >"$params" || leave
  chmod 400 "$params"
  exec 8<"$params"
  pairs=("${common[@]}")
  pairs_of_env
  pairs+=("SKEP_DEADLINE_MS=$timeout_ms")
  if ((body_bytes > PARAMS_IN_ENV_BYTES)); then
    pairs+=("SKEP_PARAMS_FILE=$params")
  else
    IFS= read -r -d '' text <"$params"
    pairs+=("SKEP_PARAMS=$text")
    rm -f -- "$params"
  fi
  open_file 5 && open_file 6 && open_file 9 || leave
}

# Wait for the end of the call: into $status, and $killed if it was ordered.
await_end() {
  local event number
  killed='' status=0
  while read -r event number <&7; do
    case $event in
      ended) status=$number && return ;;
      gone) leave ;;
      kill)
        if [[ $number == "$attempt" ]]; then
          killed=yes
          return
        fi
        ;;
    esac
  done
}

serve_call() {
  local missing killed status code='' message='' attempt pairs
  begin_call
  look_up
  if [[ $missing ]]; then
    code=command_not_found message=$missing killed=
  else
    run_call &
    await_end
  fi
  clear_others || leave
  exec 8<&-
  # The runner and what it says end with the call.
  [[ ! $killed ]] || forget_events
  if [[ ! $code && ! $killed ]]; then
    judge
  fi
  tidy || leave
  answer_call
  exec 5>&- 6>&- 9>&-
}

forget_events() {
  local event
  while read -r -t 0.01 event <&7; do
    [[ $event != gone ]] || leave
  done
}

judge() {
  local bytes
  bytes=$(stat -L -c %s /proc/$$/fd/5)
  if ((status > 128)) && [[ -s /proc/$$/fd/9 ]]; then
    code=signal
    message="it was ended by the signal SIG$(kill -l $((status - 128)))"
  elif ((status)); then
    code=exit_code message="it exited with the code $status"
  elif ((bytes > most)); then
    code=result_too_large
    message="it printed $bytes bytes to stdout; a result may have $most"
  fi
}

# What is kept of a log: descriptor; its size into $kept, what is left out into $cut.
measure() {
  local bytes
  bytes=$(stat -L -c %s "/proc/$$/fd/$1")
  kept=$((bytes > first + last ? first + last : bytes))
  cut=$((bytes - kept))
}

show() {
  local file=/proc/$$/fd/$1
  if (($2)); then
    head -c "$first" "$file"
    tail -c "$last" "$file"
  else
    cat "$file"
  fi
}

answer_call() {
  local result=0 out=0 out_cut=0 err err_cut kept cut
  measure 6
  err=$kept err_cut=$cut
  if [[ $code || $killed ]]; then
    measure 5
    out=$kept out_cut=$cut
  else
    result=$(stat -L -c %s /proc/$$/fd/5)
  fi
  local rest='"attempt":'$attempt',"omitted":'$((out_cut + err_cut)) to=$DATA outlet
  quote "$message"
  if [[ $killed ]]; then
    to=$CONTROL
    rest='{"type":"exit","began":true,"sizes":['$out,$err'],'$rest'}'
  elif [[ $code ]]; then
    rest='{"type":"result","status":"FAILED","code":"'$code'","message":"'$quoted'",'$rest
    rest+=',"sizes":[0,'$out,$err']}'
  else
    rest='{"type":"result","status":"DONE","sizes":['$result',0,'$err'],'$rest'}'
  fi
  put $to "$rest" $((result + out + err)) || leave
  find_outlet "$to"
  { [[ $result$out == 00 ]] || show 5 "$out_cut"; ((err == 0)) || show 6 "$err_cut"; } >&"$outlet" ||
    leave
}

# --- the sandbox ----------------------------------------------------------------------------

watcher=0
trap '' PIPE
trap leave TERM
put $CONTROL '{"type":"hello","protocol":1,"pid":'$$',"mark":false}' 0
take $CONTROL || leave
field path; path=$text
field bundle; bundle=$text
field run; run=$text
field entry; entry=$text
[[ $header =~ \"result\":([0-9]+) ]] && most=${BASH_REMATCH[1]}
[[ $header =~ \"head\":([0-9]+) ]] && first=${BASH_REMATCH[1]}
[[ $header =~ \"tail\":([0-9]+) ]] && last=${BASH_REMATCH[1]}
pairs=()
pairs_of_env
common=("${pairs[@]}")
# The sandbox's own, by the agent's environment: what a function names is not the agent's to clear.
scratch=${TMPDIR:-$(mktemp -d)} program_path=/usr/local/bin:/usr/bin:/bin
for pair in "${common[@]}"; do
  case $pair in
    PATH=*) program_path=${pair#PATH=} ;;
  esac
done

if [[ $entry ]]; then
  broken function entry_not_found \
    "entry '$entry' needs an agent that loads functions; that of shell runs commands: give it a run"
fi
[[ ${run//[[:space:]]/} ]] || broken function command_not_found "neither run nor entry is given"
{ lay_out && cd "$path"; } || broken node no_sandbox "the code cannot be put in place"
read_command
events=$scratch/.skep-events-$RANDOM$RANDOM
mkfifo -m 600 "$events" && exec 7<>"$events" && rm -f -- "$events" ||
  broken node no_sandbox "there is no room for a pipe in $scratch"
watch &
watcher=$!
put $CONTROL '{"type":"ready"}' 0
while take $DATA; do
  serve_call
done
leave
