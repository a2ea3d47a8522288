"""The same function in each language: what the conformance suite runs, as a table.

A *handler* of each does what its name says; the *script* of each does what ``do`` of its
params says. A language without handlers has no ``handlers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: What a script prints, or a handler returns, when it is to be too much for a result.
TOO_MUCH: Final = 7_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One agent, and the two programs that are tried with it."""

    name: str
    #: What must be on the host for its agent to run there.
    program: str
    #: File names; the script is run by ``run``.
    module: str = ""
    handlers: str = ""
    test: str
    script: str
    run: str
    #: How an exception "no dice" is told; empty for a language that has none.
    raised: str = ""
    #: Whether functions may be asynchronous.
    has_async: bool = False

    def __str__(self) -> str:
        return self.name


PYTHON: Final = Language(
    name="python",
    program="python3",
    module="hello.py",
    handlers="""
import os, subprocess, sys, time
count = 0
def give(*args, **kwargs): return kwargs or list(args)
def one(value): return value
def nothing(): pass
def greet(name, greeting="hello"): return f"{greeting} {name}"
def counts():
    global count
    count += 1
    return count
def fail(): raise ValueError("no dice")
def says(text):
    print(text)
    print(text + "!", file=sys.stderr)
    return len(text)
def much(size): print("x" * size); return "done"
def big(size): return "x" * size
def nan(): return float("nan")
def wait(): print("so far", flush=True); time.sleep(600)
def env(name): return os.environ.get(name)
def told():
    name = os.environ.get("SKEP_PARAMS_FILE")
    return len(open(name).read()) if name else len(os.environ["SKEP_PARAMS"])
def die_now(): os.kill(os.getpid(), 9)
def leave_process(code): os._exit(code)
def behind(): return subprocess.Popen(["sleep", "600"], start_new_session=True).pid
async def later(x):
    import asyncio
    await asyncio.sleep(0.01)
    return x
""",
    test="test.py",
    script="""
import json, os, subprocess, sys, time
text = sys.stdin.read()
do = json.loads(text)["do"]
if do == "echo": print(text)
elif do == "env": print(os.environ["WORD"], os.environ["SKEP_FUNCTION"])
elif do == "file":
    print(open(os.environ["SKEP_PARAMS_FILE"]).read() == text, "SKEP_PARAMS" in os.environ)
elif do == "raise": print("part"); raise ValueError("no dice")
elif do == "exit": print("part"); sys.exit(3)
elif do == "big": sys.stdout.write("x" * 7000000)
elif do == "log": sys.stderr.write("x" * 300000); print("done")
elif do == "wait": print("so far", flush=True); time.sleep(600)
elif do == "behind": subprocess.Popen(["sleep", "600"], start_new_session=True); print("done")
elif do == "die": os.kill(os.getpid(), 9)
elif do == "write": open("left", "w").write("x"); print(sorted(os.listdir(".")))
""",
    run="python3 test.py",
    raised="ValueError: no dice",
    has_async=True,
)

NODE: Final = Language(
    name="node",
    program="node",
    module="hello.js",
    handlers="""
const { spawn } = require("child_process");
const fs = require("fs");
let count = 0;
exports.give = (...args) => {
  const [first] = args;
  return args.length === 1 && typeof first === "object" ? first : args;
};
exports.one = (value) => value;
exports.nothing = () => {};
exports.greet = ({ name, greeting = "hello" }) => `${greeting} ${name}`;
exports.counts = () => { count += 1; return count; };
exports.fail = () => { throw new RangeError("no dice"); };
exports.says = (text) => { console.log(text); console.error(`${text}!`); return text.length; };
exports.much = (size) => { console.log("x".repeat(size)); return "done"; };
exports.big = (size) => "x".repeat(size);
exports.nan = () => NaN;
exports.wait = () => { console.log("so far"); return new Promise((r) => setTimeout(r, 6e5)); };
exports.env = (name) => process.env[name] ?? null;
exports.told = () => {
  const name = process.env.SKEP_PARAMS_FILE;
  return name ? fs.readFileSync(name, "utf8").length : process.env.SKEP_PARAMS.length;
};
exports.die_now = () => { process.kill(process.pid, "SIGKILL"); for (;;); };
exports.leave_process = (code) => process.exit(code);
exports.behind = () => spawn("sleep", ["600"], { detached: true, stdio: "ignore" }).pid;
exports.later = async (x) => { await new Promise((r) => setTimeout(r, 10)); return x; };
""",
    test="test.js",
    script="""
const fs = require("fs");
const text = fs.readFileSync("/dev/stdin", "utf8");
const { do: deed } = JSON.parse(text);
const { env } = process;
const deeds = {
  echo: () => console.log(text),
  env: () => console.log(env.WORD, env.SKEP_FUNCTION),
  file: () => {
    const same = fs.readFileSync(env.SKEP_PARAMS_FILE, "utf8") === text;
    console.log(same ? "True" : "False", "SKEP_PARAMS" in env ? "True" : "False");
  },
  raise: () => { console.log("part"); throw new RangeError("no dice"); },
  exit: () => { console.log("part"); process.exitCode = 3; },
  big: () => process.stdout.write("x".repeat(7000000)),
  log: () => { process.stderr.write("x".repeat(300000)); console.log("done"); },
  wait: () => { console.log("so far"); setTimeout(() => {}, 6e5); },
  behind: () => {
    const options = { detached: true, stdio: "ignore" };
    require("child_process").spawn("sleep", ["600"], options).unref();
    console.log("done");
  },
  die: () => process.kill(process.pid, "SIGKILL"),
  write: () => {
    fs.writeFileSync("left", "x");
    console.log(`['${fs.readdirSync(".").sort().join("', '")}']`);
  },
};
deeds[deed]();
""",
    run="node test.js",
    raised="RangeError: no dice",
    has_async=True,
)

PHP: Final = Language(
    name="php",
    program="php",
    module="hello.php",
    handlers="""<?php
$count = 0;
function give(...$args) { return $args; }
function one($value) { return $value; }
function nothing() {}
function greet(string $name, string $greeting = "hello") { return "$greeting $name"; }
function counts() { global $count; return ++$count; }
function fail() { throw new ValueError("no dice"); }
function says(string $text) {
    echo $text, "\\n";
    fwrite(STDERR, "$text!\\n");
    return strlen($text);
}
function much(int $size) { echo str_repeat("x", $size), "\\n"; return "done"; }
function big(int $size) { return str_repeat("x", $size); }
function nan() { return NAN; }
function wait() { echo "so far\\n"; sleep(600); }
function env(string $name) { $value = getenv($name); return $value === false ? null : $value; }
function told() {
    $name = getenv("SKEP_PARAMS_FILE");
    return strlen($name ? file_get_contents($name) : getenv("SKEP_PARAMS"));
}
function die_now() { posix_kill(getmypid(), 9); }
function leave_process(int $code) { exit($code); }
function behind() {
    exec("setsid sleep 600 >/dev/null 2>&1 & echo $!", $out);
    return (int) $out[0];
}
""",
    test="test.php",
    script="""<?php
$text = file_get_contents("php://stdin");
switch (json_decode($text)->do) {
    case "echo": echo $text, "\\n"; break;
    case "env": echo getenv("WORD"), " ", getenv("SKEP_FUNCTION"), "\\n"; break;
    case "file":
        $same = file_get_contents(getenv("SKEP_PARAMS_FILE")) === $text;
        echo $same ? "True" : "False", getenv("SKEP_PARAMS") === false ? " False" : " True";
        break;
    case "raise": echo "part\\n"; throw new ValueError("no dice");
    case "exit": echo "part\\n"; exit(3);
    case "big": echo str_repeat("x", 7000000); break;
    case "log": fwrite(STDERR, str_repeat("x", 300000)); echo "done\\n"; break;
    case "wait": echo "so far\\n"; sleep(600); break;
    case "behind": exec("setsid sleep 600 >/dev/null 2>&1 &"); echo "done\\n"; break;
    case "die": posix_kill(getmypid(), 9); sleep(9); break;
    case "write":
        file_put_contents("left", "x");
        $names = array_values(array_diff(scandir("."), [".", ".."]));
        echo "['", implode("', '", $names), "']\\n";
        break;
}
""",
    run="php test.php",
    raised="ValueError: no dice",
)

SHELL: Final = Language(
    name="shell",
    program="bash",
    test="test.sh",
    script=r"""
text=$(cat)
do=$(printf '%s' "$text" | sed -n 's/.*"do": *"\([a-z]*\)".*/\1/p')
case $do in
  echo) printf '%s\n' "$text" ;;
  env) echo "$WORD $SKEP_FUNCTION" ;;
  file)
    test "$(cat "$SKEP_PARAMS_FILE")" = "$text" && printf 'True '
    test -z "${SKEP_PARAMS+set}" && echo False ;;
  exit) echo part; exit 3 ;;
  big) head -c 7000000 /dev/zero | tr '\0' x ;;
  log) head -c 300000 /dev/zero | tr '\0' x >&2; echo done ;;
  wait) echo so far; sleep 600 ;;
  behind) setsid sleep 600 >/dev/null 2>&1 & echo done ;;
  die) kill -9 $$ ;;
  write) echo x >left; echo "['$(ls | tr '\n' ' ' | sed "s/ $//; s/ /', '/g")']" ;;
esac
""",
    run="sh test.sh",
)

LANGUAGES: Final = (PYTHON, NODE, PHP, SHELL)
