#!/usr/bin/env node
// The agent of JavaScript sandboxes: one file, Node.js 16 or later, nothing else.
//
// `agent.js SOCKET` is the first process of a sandbox. It connects twice to the miniworker that
// listens there (docs/protocol.md, "Miniworker and agent"; `-` for SOCKET is its stdin and stdout)
// and runs none of the function's code:
//
//   miniworker == control, data ==> first process
//                                    |- a call      script, command: one process for each
//                                    `- the host    handler: loads `entry` once, answers calls
//
// The same file is the host (`--host`), and is loaded before a script to see what it throws.
// Node can neither take a descriptor nor reap what is not its own child: it says `mark: false`,
// and where something of a call is left that it cannot be rid of, it answers and ends, so that
// the miniworker replaces the sandbox.
"use strict";

const { spawn, execFileSync } = require("child_process");
const { randomBytes } = require("crypto");
const fs = require("fs");
const net = require("net");
const os = require("os");
const path = require("path");
const { pathToFileURL } = require("url");

// In the place of a socket's path: the connection is stdin and stdout.
const BY_STDIO = "-";
const PARAMS_IN_ENV_BYTES = 64 << 10;
const MESSAGE_CHARS = 2000;
const BROKEN_LOG_BYTES = 16 << 10;
const READ_BYTES = 64 << 10;
const LOAD_MS = 45000;
// What a process that has ended said is read within this, whoever else still has its fd 3.
const SAID_MS = 100;
// Where a process of the function tells the agent what it cannot print: fd 3.
const REPORT = 3;
const REPORTS = "SKEP_AGENT_REPORTS";
// In a pid namespace of its own all other processes are the function's.
const ALONE = process.pid === 1;
// The sandbox's own, by the agent's environment: what a function names is not the agent's to clear.
const SCRATCH = process.env.TMPDIR || "";
// What makes a command one for sh instead of a plain list of words.
const SHELL = /[|&;<>()$`*?[\]{}~#\n\\"]|^(\w+=|(exec|cd|export|set|umask|ulimit)\b)/;

// --- frames ---------------------------------------------------------------------------------

function frame(header, body = Buffer.alloc(0)) {
  const packed = Buffer.from(JSON.stringify(header));
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(packed.length, 0);
  lengths.writeUInt32BE(body.length, 4);
  return Buffer.concat([lengths, packed, body]);
}

/** Call `heard(header, body)` for each whole frame that a stream brings. */
function listen(stream, heard, broken) {
  let chunks = [];
  let held = 0;
  let wanted = 8;
  stream.on("data", (chunk) => {
    chunks.push(chunk);
    held += chunk.length;
    while (held >= wanted) {
      let all = Buffer.concat(chunks);
      const header = all.readUInt32BE(0);
      const whole = 8 + header + all.readUInt32BE(4);
      chunks = [all];
      wanted = whole;
      if (held < whole) return;
      let message;
      try {
        message = JSON.parse(all.toString("utf8", 8, 8 + header));
      } catch (error) {
        broken(error);
        return;
      }
      const body = all.subarray(8 + header, whole);
      chunks = [all.subarray(whole)];
      held -= whole;
      wanted = 8;
      heard(message, body);
    }
  });
}

// --- what a call prints ---------------------------------------------------------------------

/** One stream: all of it up to a limit, then head and tail. */
class Stream {
  constructor(most, head, tail) {
    Object.assign(this, { most, headBytes: head, tailBytes: tail });
    this.forget();
  }

  forget() {
    this.total = 0;
    this.isWhole = true;
    this.parts = [];
    this.tail = Buffer.alloc(0);
  }

  feed(chunk) {
    this.total += chunk.length;
    if (this.isWhole && this.total <= this.most) {
      this.parts.push(chunk);
      return;
    }
    if (this.isWhole) {
      const all = Buffer.concat([...this.parts, chunk]);
      this.isWhole = false;
      this.parts = [Buffer.from(all.subarray(0, this.headBytes))];
      chunk = all.subarray(this.headBytes);
    }
    const tail = Buffer.concat([this.tail, chunk]);
    this.tail = Buffer.from(tail.subarray(Math.max(0, tail.length - this.tailBytes)));
  }

  whole() {
    return Buffer.concat(this.parts);
  }

  cut() {
    const data = this.whole();
    if (!this.isWhole) return Buffer.concat([data, this.tail]);
    if (data.length <= this.headBytes + this.tailBytes) return data;
    const end = data.subarray(data.length - this.tailBytes);
    return Buffer.concat([data.subarray(0, this.headBytes), end]);
  }
}

/** A pipe that processes of the function print into, for as long as the sandbox lives. */
class Pipe {
  constructor(place, stream) {
    // A pipe with a name, because Node makes sockets, and no program can open /dev/stdout then.
    this.source = fs.openSync(place, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    this.target = fs.openSync(place, fs.constants.O_WRONLY);
    fs.unlinkSync(place);
    this.stream = stream;
    this.reader = new net.Socket({ fd: this.source, readable: true, writable: false });
    this.reader.on("data", (chunk) => stream.feed(chunk));
    this.reader.on("error", () => {});
  }

  /** Return another descriptor to print into it. */
  open() {
    return fs.openSync(`/proc/self/fd/${this.target}`, "w");
  }

  /** Read what is in it now: all that was printed before. */
  drain() {
    const room = Buffer.alloc(READ_BYTES);
    for (let reads = 0; reads < 64; reads += 1) {
      let size = 0;
      try {
        size = fs.readSync(this.source, room, 0, READ_BYTES, null);
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
      }
      if (size === 0) return;
      this.stream.feed(Buffer.from(room.subarray(0, size)));
    }
  }
}

class Printed {
  constructor(folder, limits, most) {
    const { head, tail } = limits;
    const named = (name) => path.join(folder, `.skep-${process.pid}-${name}`);
    execFileSync("mkfifo", ["-m", "600", named("out"), named("err")]);
    this.out = new Pipe(named("out"), new Stream(Math.max(most, head + tail), head, tail));
    this.err = new Pipe(named("err"), new Stream(head + tail, head, tail));
  }

  drain() {
    this.out.drain();
    this.err.drain();
  }

  forget() {
    this.out.stream.forget();
    this.err.stream.forget();
  }

  logs() {
    const { stream: out } = this.out;
    const { stream: err } = this.err;
    const kept = { out: out.cut(), err: err.cut() };
    return { ...kept, omitted: out.total + err.total - kept.out.length - kept.err.length };
  }
}

// --- processes ------------------------------------------------------------------------------

/** Return [pid, state] of all that is in the sandbox and is not this process. */
function others() {
  const found = [];
  for (const name of fs.readdirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    try {
      const stat = fs.readFileSync(`/proc/${name}/stat`, "latin1");
      const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      found.push({ pid: Number(name), state, parent: Number(parent) });
    } catch (error) {
      continue;
    }
  }
  return ALONE ? found : ours(found);
}

/** Without a namespace: what comes of this process, and the orphans, whom the miniworker has. */
function ours(found) {
  const wanted = new Set([process.pid]);
  if (process.ppid > 1) wanted.add(process.ppid);
  const chosen = [];
  for (let before = -1; before !== chosen.length; ) {
    before = chosen.length;
    for (const one of found) {
      if (wanted.has(one.parent) && !chosen.includes(one)) {
        chosen.push(one);
        wanted.add(one.pid);
      }
    }
  }
  return chosen;
}

function kill(pid) {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    // It has ended meanwhile.
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** End everything but this process; return whether nothing is left, not even a zombie. */
async function clear(child) {
  for (;;) {
    const all = others();
    const alive = all.filter((one) => one.state !== "Z" && one.state !== "X");
    if (alive.length === 0 && (!child || child.hasEnded)) return all.length === 0;
    if (ALONE && alive.length) kill(-1);
    alive.forEach((one) => kill(one.pid));
    await pause(1);
  }
}

function leave() {
  if (ALONE) kill(-1);
  else others().forEach((one) => kill(one.pid));
  process.exit(0);
}

// --- folders --------------------------------------------------------------------------------

/** Make the path as a call finds it: links to the bundle's top entries, and nothing else. */
function layOut(bundle, place) {
  if (bundle === place) return;
  const wanted = new Map(fs.readdirSync(bundle).map((n) => [n, path.join(bundle, n)]));
  for (const name of fs.readdirSync(place)) {
    const entry = path.join(place, name);
    if (isLinkTo(entry, wanted.get(name))) wanted.delete(name);
    else remove(entry);
  }
  for (const [name, target] of wanted) fs.symlinkSync(target, path.join(place, name));
}

function isLinkTo(entry, target) {
  return fs.lstatSync(entry).isSymbolicLink() && fs.readlinkSync(entry) === target;
}

/** Remove a file or a folder, whatever modes a call left in it. */
function remove(entry) {
  if (fs.lstatSync(entry).isDirectory()) {
    fs.chmodSync(entry, 0o700);
    fs.readdirSync(entry).forEach((name) => remove(path.join(entry, name)));
    fs.rmdirSync(entry);
  } else {
    fs.unlinkSync(entry);
  }
}

function tidy(init) {
  layOut(init.bundle, init.path);
  const scratch = [SCRATCH, ...(ALONE ? ["/dev/shm"] : [])];
  for (const folder of scratch.filter((one) => one && fs.existsSync(one))) {
    fs.readdirSync(folder).forEach((name) => remove(path.join(folder, name)));
  }
}

// --- the first process ----------------------------------------------------------------------

class Broken extends Error {
  constructor(fault, code, message) {
    super(message.slice(0, MESSAGE_CHARS));
    Object.assign(this, { fault, code });
  }
}

class Sandbox {
  constructor(socket) {
    if (socket === BY_STDIO) this.speak();
    else this.connect(socket);
  }

  /** Both connections are stdin and stdout: what comes says by its type which it is of. */
  speak() {
    const inlet = new net.Socket({ fd: 0, readable: true, writable: false });
    this.control = new net.Socket({ fd: 1, readable: false, writable: true });
    this.data = this.control;
    inlet.on("close", leave).on("error", leave);
    this.control.on("error", leave);
    const heard = (message, body) => {
      if (message.type === "call") this.mode.begin(message, body);
      else this.order(message);
    };
    listen(inlet, heard, leave);
    this.tell({ type: "hello", protocol: 1, pid: process.pid, mark: false });
  }

  connect(socket) {
    // Relative, because an address holds 108 bytes and folders may be deeper.
    process.chdir(path.dirname(socket));
    const name = `./${path.basename(socket)}`;
    this.control = net.connect(name);
    this.control.once("connect", () => {
      this.tell({ type: "hello", protocol: 1, pid: process.pid, mark: false });
      this.data = net.connect(name);
      listen(this.data, (message, body) => this.mode.begin(message, body), leave);
      this.data.on("close", leave).on("error", leave);
    });
    listen(this.control, (message) => this.order(message), leave);
    this.control.on("close", leave).on("error", leave);
  }

  tell(header, body) {
    this.control.write(frame(header, body));
  }

  order(message) {
    if (message.type === "init") this.start(message);
    else if (this.mode) this.mode.kill(message.attempt);
  }

  async start(init) {
    this.init = init;
    try {
      this.prepare(init);
      await this.mode.load();
      this.tell({ type: "ready" });
    } catch (error) {
      const { fault = "node", code = "no_sandbox", message } = error;
      this.printed?.drain();
      const { out, err } = this.printed?.logs() ?? { out: "", err: "" };
      const log = Buffer.concat([out, err].map((one) => Buffer.from(one)));
      const end = log.subarray(Math.max(0, log.length - BROKEN_LOG_BYTES));
      this.control.end(frame({ type: "broken", fault, code, message }, end), leave);
    }
  }

  prepare(init) {
    try {
      layOut(init.bundle, init.path);
      process.chdir(init.path);
      const folder = SCRATCH || os.tmpdir();
      this.printed = new Printed(folder, init.limits, init.entry ? 0 : init.limits.result);
    } catch (error) {
      const code = ["ENOSPC", "EDQUOT"].includes(error.code) ? "no_space" : "no_sandbox";
      throw new Broken("node", code, `the code cannot be put in place: ${error.message}`);
    }
    this.mode = init.entry ? new Keeper(this) : new PerCall(this, argvOf(init.run));
  }

  /** Return what a call has in its environment beside what all have. */
  envOf(message, params) {
    const env = { ...message.env, SKEP_DEADLINE_MS: String(message.timeoutMs) };
    if (params.length > PARAMS_IN_ENV_BYTES) env.SKEP_PARAMS_FILE = this.file(params);
    else env.SKEP_PARAMS = params.toString().replace(/\0/g, "");
    return env;
  }

  /** Return a new file with these bytes; its name is not to be guessed by an earlier call. */
  file(params) {
    const folder = SCRATCH || os.tmpdir();
    const name = path.join(folder, `skep-params-${randomBytes(8).toString("hex")}.json`);
    fs.writeFileSync(name, params, { flag: "wx", mode: 0o400 });
    return name;
  }

  /** After all of a call has ended: undo what it did; return whether the next one may come. */
  canGoOn(isClean) {
    try {
      tidy(this.init);
    } catch (error) {
      console.error(`the folders cannot be tidied: ${error.message}`);
      return false;
    }
    return isClean;
  }

  /** Say how an attempt ended; `ready` null means that this sandbox ends with it. */
  answer(header, body, ready) {
    const on = header.type === "exit" ? this.control : this.data;
    const whole = frame(ready ? header : { ...header, ready: false }, body);
    if (ready === null) on.end(whole, leave);
    else on.write(whole);
  }

  result(attempt, verdict, result, logs, more = {}) {
    const { code, message } = verdict;
    const sizes = [result.length, logs.out.length, logs.err.length];
    const status = code === "oom" ? "OOM" : code ? "FAILED" : "DONE";
    const header = { type: "result", attempt, status, code, message, sizes, ...more };
    return [{ ...header, omitted: logs.omitted }, Buffer.concat([result, logs.out, logs.err])];
  }

  exit(attempt, logs) {
    const header = { type: "exit", attempt, began: true, omitted: logs.omitted };
    header.sizes = [logs.out.length, logs.err.length];
    return [header, Buffer.concat([logs.out, logs.err])];
  }

  /** Start a process of the function, with fd 3 for what it has to say. */
  run(argv, env, stdin, reports = true) {
    const { out, err } = this.printed;
    // Opened anew: who makes its own not blocking must not do that to those after it.
    const fds = [stdin, out.open(), err.open()];
    const options = { cwd: this.init.path, env, detached: true };
    const child = spawn(argv[0], argv.slice(1), {
      ...options,
      stdio: reports ? [...fds, "pipe"] : fds,
    });
    fds.forEach((fd) => fs.closeSync(fd));
    const report = child.stdio?.[REPORT];
    report?.on("error", () => {});
    child.said = new Promise((resolve) => {
      if (report) report.on("close", resolve);
      else resolve();
    });
    child.ended = new Promise((resolve) => {
      const end = (status) => {
        child.hasEnded = true;
        resolve(status);
      };
      child.on("exit", (code, signal) => end({ code, signal }));
      child.on("error", (error) => end({ error }));
    });
    return child;
  }
}

/** Script and command mode: each call is a process of its own. */
class PerCall {
  constructor(sandbox, argv) {
    Object.assign(this, { sandbox, argv, running: null });
  }

  async load() {
    if (!this.argv.length) {
      throw new Broken("function", "command_not_found", "neither run nor entry is given");
    }
  }

  async begin(message, params) {
    const { sandbox } = this;
    const call = { attempt: message.attempt, killed: false, said: "" };
    sandbox.printed.drain();
    sandbox.printed.forget();
    const env = sandbox.envOf(message, params);
    const file = env.SKEP_PARAMS_FILE ?? sandbox.file(params);
    const stdin = fs.openSync(file, "r");
    if (!env.SKEP_PARAMS_FILE) fs.unlinkSync(file);
    const { argv, more } = watched(this.argv);
    const whole = { ...sandbox.init.env, ...env, ...more };
    call.child = sandbox.run(argv, whole, stdin, REPORTS in more);
    call.child.stdio?.[REPORT]?.on("data", (chunk) => {
      if (call.said.length < READ_BYTES) call.said += chunk;
    });
    this.running = call;
    const status = await call.child.ended;
    const isClean = await clear(call.child);
    await Promise.race([call.child.said, pause(SAID_MS)]);
    this.running = null;
    this.finish(call, status, isClean);
  }

  finish(call, status, isClean) {
    const { sandbox } = this;
    sandbox.printed.drain();
    const logs = sandbox.printed.logs();
    const ready = sandbox.canGoOn(isClean) || null;
    if (call.killed) {
      sandbox.answer(...sandbox.exit(call.attempt, logs), ready);
      return;
    }
    const { stream } = sandbox.printed.out;
    const verdict = verdictOf(status, call.said, this.argv[0], logs.err);
    if (!verdict.code && (!stream.isWhole || stream.total > sandbox.init.limits.result)) {
      verdict.code = "result_too_large";
      verdict.message = `it printed ${stream.total} bytes to stdout; `
        + `a result may have ${sandbox.init.limits.result}`;
    }
    const none = Buffer.alloc(0);
    if (verdict.code) {
      sandbox.answer(...sandbox.result(call.attempt, verdict, none, logs), ready);
      return;
    }
    // Where stdout is the result it is no log.
    const omitted = sandbox.printed.err.stream.total - logs.err.length;
    const rest = { out: none, err: logs.err, omitted };
    sandbox.answer(...sandbox.result(call.attempt, verdict, stream.whole(), rest), ready);
  }

  kill(attempt) {
    if (!this.running || this.running.attempt !== attempt) return;
    this.running.killed = true;
    // All that it started ends when its own end is seen.
    if (!this.running.child.hasEnded) kill(this.running.child.pid);
  }
}

/** Handler mode: the first process beside its host, which has loaded the function. */
class Keeper {
  constructor(sandbox) {
    Object.assign(this, { sandbox, host: null, call: null });
    this.forks = sandbox.init.isolation === "fork";
  }

  /** Have a host load the function. */
  load() {
    const { init } = this.sandbox;
    const nowhere = fs.openSync("/dev/null", "r");
    const argv = [process.execPath, __filename, "--host", init.entry, String(init.limits.result)];
    const host = this.sandbox.run(argv, init.env, nowhere);
    this.host = host;
    return new Promise((resolve, reject) => {
      const fail = (message) => reject(new Broken("function", "entry_not_found", message));
      const late = setTimeout(() => {
        kill(host.pid);
        fail(`loading it took longer than ${LOAD_MS / 1000} s`);
      }, LOAD_MS);
      const said = ({ loaded, failed, ...verdict }, result) => {
        clearTimeout(late);
        if (loaded) {
          host.isLoaded = true;
          resolve();
        }
        else if (failed !== undefined) fail(`${init.entry}: ${failed}`);
        else this.returned(host, verdict, result);
      };
      listen(host.stdio[REPORT], said, () => kill(host.pid));
      host.ended.then(async (status) => {
        clearTimeout(late);
        await Promise.race([host.said, pause(SAID_MS)]);
        this.sandbox.printed.drain();
        const verdict = hostVerdict(status, argv[0], this.sandbox.printed.logs().err);
        fail(`its process ended while it was loaded: ${verdict.message}`);
        if (host.isLoaded) this.died(host, verdict);
      });
    });
  }

  async begin(message, params) {
    const env = this.sandbox.envOf(message, params);
    this.call = { attempt: message.attempt, killed: false, file: env.SKEP_PARAMS_FILE };
    const call = this.call;
    // Between two calls it may have died of something that it left behind.
    await this.again;
    if (!call.killed) this.host.stdio[REPORT].write(frame({ env }, params));
  }

  /** The host has answered. */
  async returned(host, verdict, result) {
    const { call, sandbox } = this;
    if (host !== this.host || !call || call.killed) return;
    if (verdict.last) {
      // It dies of this: what it says is how, and its end is awaited.
      host.lastWords = verdict;
      return;
    }
    this.call = null;
    if (this.forks) await this.end(host, call, verdict, result);
    else this.tell(call, verdict, result, true);
  }

  tell(call, { code, message, peakMemory }, result, ready) {
    const { sandbox } = this;
    sandbox.printed.drain();
    const logs = sandbox.printed.logs();
    sandbox.printed.forget();
    if (call.file) fs.rmSync(call.file, { force: true });
    const more = code ? {} : { resultType: "json" };
    if (peakMemory) more.peakMemory = peakMemory;
    const verdict = { code, message };
    if (call.killed) sandbox.answer(...sandbox.exit(call.attempt, logs), ready);
    else sandbox.answer(...sandbox.result(call.attempt, verdict, result, logs, more), ready);
  }

  async died(host, verdict) {
    const { call } = this;
    if (host !== this.host) return;
    this.call = null;
    if (call) await this.end(host, call, host.lastWords ?? verdict, Buffer.alloc(0));
    else this.again = this.reload(host);
  }

  kill(attempt) {
    const { call, host } = this;
    if (!call || call.attempt !== attempt || call.killed) return;
    call.killed = true;
    this.call = null;
    this.end(host, call, {}, Buffer.alloc(0));
  }

  /** End all there is, answer for the call, and have a new host load. */
  async end(host, call, verdict, result) {
    this.host = null;
    const isClean = await clear(host);
    const goesOn = this.sandbox.canGoOn(isClean);
    this.tell(call, verdict, result, goesOn ? false : null);
    if (!goesOn) return;
    await this.reload();
    this.sandbox.tell({ type: "ready" });
  }

  async reload(dead) {
    try {
      const isClean = !dead || (await clear(dead));
      if (!isClean) throw new Error("something of the last call cannot be ended");
      await this.load();
    } catch (error) {
      console.error(`it cannot be loaded again: ${error.message}`);
      leave();
    }
  }
}

// --- how a call is run, and how it ended ----------------------------------------------------

/** Return the words of a command; one that means something to a shell is for sh. */
function argvOf(run) {
  const line = run.trim();
  // In single quotes nothing has a meaning to sh either.
  if (SHELL.test(line.replace(/'[^']*'/g, ""))) return ["/bin/sh", "-c", line];
  return (line.match(/(?:'[^']*'|[^\s'])+/g) ?? []).map((word) => word.replace(/'/g, ""));
}

/** Let a script of Node's say what it throws: this file is loaded before it. */
function watched(argv) {
  if (!/^node(js)?$/.test(argv[0]) || argv.length < 2) return { argv, more: {} };
  const [program, ...rest] = argv;
  return { argv: [program, "--require", __filename, ...rest], more: { [REPORTS]: "1" } };
}

/** Return why a handler's process ended before it returned. */
function hostVerdict(status, program, printed) {
  const verdict = verdictOf(status, "", program, printed);
  if (!["", "exit_code"].includes(verdict.code)) return verdict;
  const text = `its process exited with the code ${status.code}: a handler returns its result`;
  return { code: "exit_code", message: text };
}

function verdictOf({ code, signal, error }, said, program, printed) {
  if (error) return { code: "command_not_found", message: whyNot(program, error) };
  if ((signal || code >= 128) && /(heap|process) out of memory/.test(printed)) {
    return { code: "oom", message: "it reached its memory limit" };
  }
  if (signal) return { code: "signal", message: `it was ended by the signal ${signal}` };
  if (code === 0) return { code: "", message: "" };
  const raised = reported(said);
  if (raised) return { code: "raised", message: raised };
  return { code: "exit_code", message: `it exited with the code ${code}` };
}

function reported(said) {
  try {
    return String(JSON.parse(said).raised).slice(0, MESSAGE_CHARS);
  } catch (error) {
    return "";
  }
}

function whyNot(program, error) {
  const reason = { ENOENT: "No such file or directory", EACCES: "Permission denied" };
  const text = `the command '${program}' cannot be run: ${reason[error.code] ?? error.code}`;
  if (error.code === "EACCES") return `${text}: is it executable? chmod +x it before packing`;
  if (error.code === "ENOEXEC") {
    return `${text}: it is neither a program of this machine nor begins with a #! line`;
  }
  if (error.code === "ENOENT" && fs.existsSync(program)) {
    return `${text}: what its #! line names, or a library that it needs, is not there`;
  }
  return text;
}

function textOf(error) {
  let text;
  try {
    text = error instanceof Error ? `${error.name}: ${error.message}` : `thrown: ${error}`;
  } catch (another) {
    text = "an exception whose text cannot be made";
  }
  return Array.from(text).slice(0, MESSAGE_CHARS).join("");
}

/** Wait until what was printed is in the pipe. */
function flushed(stream) {
  if (!stream.writableLength) return undefined;
  return new Promise((resolve) => stream.write("", resolve));
}

/** Print an exception as Node does, without the lines of this file and of Node itself. */
function printError(error) {
  const stack = error instanceof Error ? String(error.stack) : textOf(error);
  const own = (line) => line.includes(__filename) || /\(?node:|Host\./.test(line);
  const lines = stack.split("\n").filter((line) => !/^\s+at /.test(line) || !own(line));
  fs.writeSync(2, `${lines.join("\n")}\n`);
}

// --- the host -------------------------------------------------------------------------------

class Host {
  constructor(entry, limit) {
    const [, module, name] = /^(.*)[.:]([^.:]+)$/.exec(entry) ?? [];
    Object.assign(this, { entry, module, name, limit, runs: false });
    // Whatever the function puts in their place.
    this.encode = JSON.stringify;
    this.decode = JSON.parse;
    // It must not keep the process alive for ever if the agent has ended.
    this.agent = new net.Socket({ fd: REPORT, readable: true, writable: true });
    this.agent.on("close", () => process.exit(0)).on("error", () => process.exit(0));
  }

  async serve() {
    process.argv = [process.argv[0], this.entry];
    process.on("uncaughtExceptionMonitor", (error) => {
      const raised = { last: true, code: "raised", message: textOf(error) };
      if (this.runs) this.sayNow(raised);
      else this.sayNow({ failed: textOf(error) });
    });
    let found;
    try {
      found = await this.find();
    } catch (error) {
      printError(error);
      this.agent.end(frame({ failed: textOf(error) }));
      return;
    }
    this.call = found;
    listen(this.agent, (message, body) => this.answer(message, body), () => process.exit(1));
    this.agent.write(frame({ loaded: true }));
  }

  /** Say it before this process ends, which waits for nothing. */
  sayNow(header) {
    try {
      fs.writeSync(REPORT, frame(header));
    } catch (error) {
      // Its exit code has to do.
    }
  }

  async find() {
    if (!this.module) {
      throw new Error(`entry '${this.entry}' is not module.function, such as hello.main`);
    }
    const file = this.locate();
    const module = await import(pathToFileURL(file).href);
    // What a CommonJS module exports is the default of what is imported.
    const exported = { ...module.default, ...module };
    const found = module[this.name] ?? module.default?.[this.name];
    if (typeof found === "function") return found;
    const names = Object.keys(exported).filter((n) => typeof exported[n] === "function");
    const has = names.filter((n) => n !== "default").sort().slice(0, 10).join(", ");
    const nothing = "nothing that can be called";
    const text = `the module ${this.module} has no function '${this.name}'; `;
    throw new TypeError(`${text}it exports ${has || nothing}`);
  }

  locate() {
    const base = path.resolve(this.module.replace(/\./g, "/"));
    const ends = [".js", ".mjs", ".cjs", "/index.js", "/index.mjs", "/index.cjs"];
    const file = ends.map((end) => base + end).find((one) => fs.existsSync(one));
    if (file) return file;
    const name = path.relative(process.cwd(), base);
    throw new Error(`there is no module ${name}.js, ${name}.mjs or ${name}.cjs`);
  }

  async answer({ env }, params) {
    this.runs = true;
    for (const name of ["SKEP_PARAMS", "SKEP_PARAMS_FILE"]) delete process.env[name];
    Object.assign(process.env, env);
    const [header, result] = await this.run(params);
    this.runs = false;
    await Promise.all([process.stdout, process.stderr].map(flushed));
    header.peakMemory = process.resourceUsage().maxRSS * 1024;
    this.agent.write(frame(header, result));
  }

  async run(params) {
    try {
      const given = this.decode(params.toString());
      const { call } = this;
      const value = await call(...(Array.isArray(given) ? given : [given]));
      const result = Buffer.from(this.asJson(value));
      if (result.length <= this.limit) return [{ code: "", message: "" }, result];
      const message = `its result has ${result.length} bytes; one may have ${this.limit}`;
      return [{ code: "result_too_large", message }];
    } catch (error) {
      printError(error);
      return [{ code: "raised", message: textOf(error) }];
    }
  }

  asJson(value) {
    const refuse = (one, why) => {
      throw new TypeError(`it returned a ${why} that cannot be JSON`);
    };
    const check = (key, one) => {
      if (typeof one === "number" && !Number.isFinite(one)) refuse(one, `number (${one})`);
      if (["function", "symbol", "bigint"].includes(typeof one)) refuse(one, typeof one);
      if (one instanceof Map || one instanceof Set) refuse(one, one.constructor.name);
      return one;
    };
    return this.encode(value, check) ?? "null";
  }
}

// --- which of the three this process is -----------------------------------------------------

if (require.main !== module) {
  if (process.env[REPORTS]) {
    delete process.env[REPORTS];
    process.on("uncaughtExceptionMonitor", (error) => {
      try {
        fs.writeSync(REPORT, JSON.stringify({ raised: textOf(error) }));
      } catch (another) {
        // The script closed it: its exit code has to do.
      }
    });
  }
} else if (process.argv[2] === "--host") {
  new Host(process.argv[3], Number(process.argv[4])).serve();
} else {
  new Sandbox(process.argv[2]);
}
