#!/usr/bin/env php
<?php
// The agent of PHP sandboxes: one file, PHP 8.0 or later with posix, nothing else.
//
// `agent.php SOCKET` is the first process of a sandbox. It connects twice to the miniworker that
// listens there (docs/protocol.md, "Miniworker and agent"; `-` for SOCKET is its stdin and stdout)
// and runs none of the function's code: a script or command is a process for each call, a handler is loaded once by a process beside
// this one (the same file with --host), and a script has this file loaded before it, to tell
// what it throws. PHP cannot take a descriptor (`mark: false`), and where something of a call is
// left that it cannot be rid of, it answers and ends: the miniworker replaces the sandbox.
declare(strict_types=1);

namespace Skep;

// The sandbox's own, by the agent's environment: what a function names is not the agent's to clear.
define(__NAMESPACE__ . "\\SCRATCH", (string) getenv("TMPDIR"));
/** In the place of a socket's path: the connection is stdin and stdout. */
const BY_STDIO = "-";
const PARAMS_IN_ENV_BYTES = 64 << 10;
const MESSAGE_BYTES = 2000;
const BROKEN_LOG_BYTES = 16 << 10;
const READ_BYTES = 64 << 10;
const LOAD_S = 45;
/** How often a process that neither prints nor ends is looked at. */
const LOOK_US = 10_000;
/** A host reads calls here and answers there; a script tells there what it throws. */
const ORDERS = 3;
const REPORT = 4;
const REPORTS = "SKEP_AGENT_REPORTS";
/** What makes a command one for sh instead of a plain list of words. */
const SHELL = '/[|&;<>()$`*?[\]{}~#\n\\\\"]|^(\w+=|(exec|cd|export|set|umask|ulimit)\b)/';
/** What it prints of its own errors is log, and its memory is limited by the sandbox. */
const SETTINGS = [
    "-d", "display_errors=stderr", "-d", "log_errors=0", "-d", "html_errors=0",
    "-d", "memory_limit=-1",
];

// --- frames --------------------------------------------------------------------------------

function encode(array $header, string $body = ""): string
{
    $flags = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;
    $packed = json_encode($header, $flags);
    return pack("NN", strlen($packed), strlen($body)) . $packed . $body;
}

function send($to, string $frame): bool
{
    for ($sent = 0; $sent < strlen($frame); $sent += $size) {
        $size = @fwrite($to, substr($frame, $sent, 1 << 20));
        if (!$size) {
            return false;
        }
    }
    return true;
}

/** Return exactly so many bytes; null where there are no more. */
function exactly($from, int $size): ?string
{
    $got = "";
    while (strlen($got) < $size) {
        $chunk = @fread($from, min($size - strlen($got), 1 << 20));
        if ($chunk === "" || $chunk === false) {
            return null;
        }
        $got .= $chunk;
    }
    return $got;
}

/** Return the next frame as [header, body]; null at the end, or where there is none. */
function receive($from): ?array
{
    $lengths = exactly($from, 8);
    if ($lengths === null) {
        return null;
    }
    ["h" => $header, "b" => $body] = unpack("Nh/Nb", $lengths);
    $message = json_decode(exactly($from, $header) ?? "", true);
    $content = exactly($from, $body);
    return is_array($message) && $content !== null ? [$message, $content] : null;
}

/** Return those of the streams that have something, waiting so long at most. */
function readable(array $streams, ?int $us): array
{
    $wanted = array_filter($streams, "is_resource");
    $none = null;
    $seconds = $us === null ? null : intdiv($us, 1_000_000);
    $count = @stream_select($wanted, $none, $none, $seconds, $us === null ? 0 : $us % 1_000_000);
    return $count ? $wanted : [];
}

// --- what a call prints --------------------------------------------------------------------

/** One stream: all of it up to a limit, then head and tail. */
final class Stream
{
    public int $total = 0;
    private string $data = "";
    private string $tail = "";

    public function __construct(private int $most, private int $head, private int $end)
    {
    }

    public function feed(string $chunk): void
    {
        $before = $this->total;
        $this->total += strlen($chunk);
        if ($this->total <= $this->most) {
            $this->data .= $chunk;
            return;
        }
        if ($before <= $this->most) {
            $chunk = substr($this->data, $this->head) . $chunk;
            $this->data = substr($this->data, 0, $this->head);
        }
        $this->tail = substr($this->tail . $chunk, -$this->end);
    }

    public function isWhole(): bool
    {
        return $this->total <= $this->most;
    }

    public function whole(): string
    {
        return $this->data;
    }

    public function cut(): string
    {
        if ($this->isWhole() && $this->total > $this->head + $this->end) {
            return substr($this->data, 0, $this->head) . substr($this->data, -$this->end);
        }
        return $this->data . $this->tail;
    }
}

// --- processes -----------------------------------------------------------------------------

/** A process of the function, and what is read of it. */
final class Process
{
    public ?array $status = null;
    public string $said = "";
    public Stream $out;
    public Stream $err;
    private $handle;
    private array $pipes = [];

    public function __construct(
        array $argv,
        array $env,
        string $stdin,
        private array $limits,
        private int $most,
        string $folder,
    ) {
        $this->forget();
        $kinds = [
            ["file", $stdin, "r"], ["pipe", "w"], ["pipe", "w"],
            ORDERS => ["pipe", "r"], REPORT => ["pipe", "w"],
        ];
        // What this process has open is none of the function's: PHP would hand it down. The
        // lowest numbers are others by then.
        $open = array_filter(sockets(), fn ($fd) => $fd > REPORT);
        $line = "exec " . implode(" ", array_map(fn ($fd) => "$fd<&-", $open))
            . '; command -v setsid >/dev/null && exec setsid "$@"; exec "$@"';
        $argv = ["/bin/sh", "-c", $line, "sh", ...$argv];
        $handle = @proc_open($argv, $kinds, $this->pipes, $folder, $env);
        if ($handle === false) {
            fwrite(STDERR, "no process for the call\n");
            leave();
        }
        $this->handle = $handle;
        foreach ([1, 2, REPORT] as $fd) {
            stream_set_blocking($this->pipes[$fd], false);
        }
    }

    public function forget(): void
    {
        ["head" => $head, "tail" => $tail] = $this->limits;
        $this->out = new Stream(max($this->most, $head + $tail), $head, $tail);
        $this->err = new Stream($head + $tail, $head, $tail);
    }

    public function pid(): int
    {
        return proc_get_status($this->handle)["pid"];
    }

    public function hasEnded(): bool
    {
        if ($this->status === null) {
            $status = proc_get_status($this->handle);
            // PHP tells the end of a process once.
            $this->status = $status["running"] ? null : $status;
        }
        return $this->status !== null;
    }

    /** Wait a little for output, an answer, or one of these streams; return which of these. */
    public function wait(array $others, int $us): array
    {
        $mine = [$this->pipes[1] ?? null, $this->pipes[2] ?? null, $this->pipes[REPORT] ?? null];
        $found = readable([...$mine, ...$others], $us);
        foreach ([1, 2, REPORT] as $fd) {
            if (in_array($this->pipes[$fd] ?? null, $found, true)) {
                $this->read($fd);
            }
        }
        return array_filter($others, fn ($one) => in_array($one, $found, true));
    }

    /** Read what is there now: all that was printed before. */
    public function drain(): void
    {
        foreach ([1, 2, REPORT] as $fd) {
            for ($reads = 0; $reads < 64 && $this->read($fd); $reads++) {
                continue;
            }
        }
    }

    public function order(string $frame): void
    {
        send($this->pipes[ORDERS], $frame);
    }

    /** Return the next whole frame that the process has sent; null while there is none. */
    public function frame(): ?array
    {
        if (strlen($this->said) < 8) {
            return null;
        }
        ["h" => $header, "b" => $body] = unpack("Nh/Nb", $this->said);
        if (strlen($this->said) < 8 + $header + $body) {
            return null;
        }
        $message = json_decode(substr($this->said, 8, $header), true);
        $content = substr($this->said, 8 + $header, $body);
        $this->said = substr($this->said, 8 + $header + $body);
        return [is_array($message) ? $message : [], $content];
    }

    public function close(): void
    {
        foreach ($this->pipes as $pipe) {
            if (is_resource($pipe)) {
                fclose($pipe);
            }
        }
        proc_close($this->handle);
    }

    private function read(int $fd): bool
    {
        $pipe = $this->pipes[$fd] ?? null;
        $chunk = is_resource($pipe) ? fread($pipe, READ_BYTES) : false;
        if ($chunk === false || $chunk === "") {
            if (is_resource($pipe) && feof($pipe)) {
                // A pipe that is at its end would be readable for ever.
                fclose($pipe);
                unset($this->pipes[$fd]);
            }
            return false;
        }
        match ($fd) {
            1 => $this->out->feed($chunk),
            2 => $this->err->feed($chunk),
            REPORT => $this->said .= $chunk,
        };
        return true;
    }
}

/** Return the descriptors of this process that are connections. */
function sockets(): array
{
    $found = array_filter(scandir("/proc/self/fd"), "ctype_digit");
    $isSocket = fn ($fd) => str_starts_with((string) @readlink("/proc/self/fd/$fd"), "socket:");
    return array_values(array_filter($found, $isSocket));
}

/** In a pid namespace of its own all other processes are the function's. */
function isAlone(): bool
{
    return posix_getpid() === 1;
}

/** Return [pid => [state, parent]] of all that is in the sandbox and is not this process. */
function others(): array
{
    $found = [];
    foreach (scandir("/proc") as $name) {
        $stat = ctype_digit($name) ? @file_get_contents("/proc/$name/stat") : false;
        if ($stat && (int) $name !== posix_getpid()) {
            [$state, $parent] = explode(" ", substr($stat, strrpos($stat, ")") + 2));
            $found[(int) $name] = [$state, (int) $parent];
        }
    }
    return isAlone() ? $found : ours($found);
}

/** Without a namespace: what comes of this process, and the orphans, whom the miniworker has. */
function ours(array $found): array
{
    $parents = array_filter([posix_getpid(), posix_getppid()], fn ($pid) => $pid > 1);
    $chosen = [];
    do {
        $before = count($chosen);
        $known = [...$parents, ...array_keys($chosen)];
        $chosen += array_filter($found, fn ($one) => in_array($one[1], $known, true));
    } while (count($chosen) > $before);
    return $chosen;
}

/** End everything but this process; return whether nothing is left, not even a zombie. */
function clear(?Process $process): bool
{
    while (true) {
        $ended = $process === null || $process->hasEnded();
        $all = others();
        $alive = array_filter($all, fn ($one) => !in_array($one[0], ["Z", "X"], true));
        foreach (array_keys(array_diff_key($all, $alive)) as $zombie) {
            if ($ended && function_exists("pcntl_waitpid")) {
                pcntl_waitpid($zombie, $status, WNOHANG);
                unset($all[$zombie]);
            }
        }
        if (!$alive && $ended) {
            return !$all;
        }
        foreach ($alive ? [...(isAlone() ? [-1] : []), ...array_keys($alive)] : [] as $pid) {
            posix_kill($pid, 9);
        }
        usleep(500);
    }
}

function leave(): never
{
    foreach (isAlone() ? [-1] : array_keys(others()) as $pid) {
        posix_kill($pid, 9);
    }
    exit(0);
}

// --- folders -------------------------------------------------------------------------------

function entries(string $folder): array
{
    return array_values(array_diff(scandir($folder), [".", ".."]));
}

/** Make the path as a call finds it: links to the bundle's top entries, and nothing else. */
function layOut(string $bundle, string $path): void
{
    if ($bundle === $path) {
        return;
    }
    $wanted = array_fill_keys(entries($bundle), true);
    foreach (entries($path) as $name) {
        if (is_link("$path/$name") && readlink("$path/$name") === "$bundle/$name") {
            unset($wanted[$name]);
        } else {
            remove("$path/$name");
        }
    }
    foreach (array_keys($wanted) as $name) {
        symlink("$bundle/$name", "$path/$name");
    }
}

/** Remove a file or a folder, whatever modes a call left in it. */
function remove(string $entry): void
{
    if (is_link($entry) || !is_dir($entry)) {
        unlink($entry);
        return;
    }
    chmod($entry, 0700);
    foreach (entries($entry) as $name) {
        remove("$entry/$name");
    }
    rmdir($entry);
}

/** What PHP warns of is an exception here: nothing goes wrong unseen. */
function strictly(): void
{
    set_error_handler(function (int $level, string $message): bool {
        if (error_reporting() & $level) {
            throw new \ErrorException($message);
        }
        return false;
    });
}

// --- the first process ---------------------------------------------------------------------

final class Broken extends \Exception
{
    public function __construct(
        public string $fault,
        public string $reason,
        string $message,
        public string $log = "",
    ) {
        parent::__construct(clip($message));
    }
}

function clip(string $text): string
{
    return strlen($text) > MESSAGE_BYTES ? shortened($text) : $text;
}

/** Cut a text where no character is cut. */
function shortened(string $text): string
{
    return (string) preg_replace('/[\xC0-\xFF]?[\x80-\xBF]*\z/', "", substr($text, 0, MESSAGE_BYTES));
}

/** What the first process has whatever the mode. */
final class Sandbox
{
    public array $init = [];
    public $control;
    private $data;
    /** Where answers go: over stdio what is read is not what is written. */
    private $answers;

    public function __construct(string $socket)
    {
        if ($socket === BY_STDIO) {
            // What comes in says by its type which connection it is of.
            $this->control = $this->data = $this->unhurried(STDIN);
            $this->answers = STDOUT;
            $this->tell(["type" => "hello", "protocol" => 1, "pid" => posix_getpid(), "mark" => false]);
            return;
        }
        // Relative, because an address holds 108 bytes and folders may be deeper.
        chdir(dirname($socket));
        $this->control = $this->meet(basename($socket));
        $hello = ["type" => "hello", "protocol" => 1, "pid" => posix_getpid(), "mark" => false];
        $this->tell($hello);
        $this->data = $this->meet(basename($socket));
    }

    private function meet(string $name)
    {
        $stream = stream_socket_client("unix://./$name");
        stream_set_timeout($stream, 1 << 30);
        return $this->unhurried($stream);
    }

    private function unhurried($stream)
    {
        stream_set_read_buffer($stream, 0);
        return $stream;
    }

    public function tell(array $header, string $body = ""): void
    {
        send($this->answers ?? $this->control, encode($header, $body)) || leave();
    }

    public function serve(): void
    {
        [$this->init] = receive($this->control) ?? leave();
        try {
            $this->prepare();
            $mode = $this->init["entry"] ? new Keeper($this) : new PerCall($this);
        } catch (Broken $error) {
            $broken = ["fault" => $error->fault, "code" => $error->reason];
            $broken += ["type" => "broken", "message" => $error->getMessage()];
            $this->tell($broken, substr($error->log, -BROKEN_LOG_BYTES));
            leave();
        }
        $this->tell(["type" => "ready"]);
        while (true) {
            $found = readable([$this->control, $this->data, ...$mode->streams()], null);
            if (in_array($this->data, $found, true)) {
                $said = receive($this->data) ?? leave();
                // Over stdio it may be an order, of a call that has answered meanwhile.
                $said[0]["type"] === "call" && $mode->begin(...$said);
            } elseif (in_array($this->control, $found, true)) {
                // Of a call that has answered meanwhile: that was first.
                receive($this->control) ?? leave();
            } else {
                $mode->look();
            }
        }
    }

    private function prepare(): void
    {
        try {
            layOut($this->init["bundle"], $this->init["path"]);
            chdir($this->init["path"]);
        } catch (\ErrorException $error) {
            $isFull = str_contains($error->getMessage(), "No space left");
            $text = "the code cannot be put in place: {$error->getMessage()}";
            throw new Broken("node", $isFull ? "no_space" : "no_sandbox", $text);
        }
    }

    /** Return whether the miniworker wants this attempt to end. */
    public function isToEnd(int $attempt, array $found): bool
    {
        if (!in_array($this->control, $found, true)) {
            return false;
        }
        [$message] = receive($this->control) ?? leave();
        return ($message["attempt"] ?? 0) === $attempt;
    }

    /** Return what a call has in its environment. */
    public function envOf(array $message, string $params): array
    {
        $env = ["SKEP_DEADLINE_MS" => (string) $message["timeoutMs"]];
        if (strlen($params) > PARAMS_IN_ENV_BYTES) {
            $env["SKEP_PARAMS_FILE"] = $this->file($params);
        } else {
            $env["SKEP_PARAMS"] = str_replace("\0", "", $params);
        }
        return $env + $message["env"];
    }

    /** Return a new file with these bytes; its name is not to be guessed by an earlier call. */
    public function file(string $params): string
    {
        $folder = SCRATCH ?: sys_get_temp_dir();
        $name = "$folder/skep-params-" . bin2hex(random_bytes(8)) . ".json";
        file_put_contents($name, $params);
        chmod($name, 0400);
        return $name;
    }

    /** After all of a call has ended: undo what it did; return whether the next may come. */
    public function canGoOn(bool $isClean): bool
    {
        try {
            layOut($this->init["bundle"], $this->init["path"]);
            $scratch = [SCRATCH, isAlone() ? "/dev/shm" : ""];
            foreach (array_filter($scratch, "is_dir") as $folder) {
                array_map(fn ($name) => remove("$folder/$name"), entries($folder));
            }
        } catch (\ErrorException $error) {
            fwrite(STDERR, "the folders cannot be tidied: {$error->getMessage()}\n");
            return false;
        }
        return $isClean;
    }

    /** Say how an attempt ended; `ready` null means that this sandbox ends with it. */
    public function answer(array $header, string $body, ?bool $ready): void
    {
        $on = $this->answers ?? ($header["type"] === "exit" ? $this->control : $this->data);
        send($on, encode($header + ($ready ? [] : ["ready" => false]), $body)) || leave();
        if ($ready === null) {
            leave();
        }
    }

    /** Answer for a call: [code, message] of its end, or null if it was killed. */
    public function end(
        int $attempt,
        ?array $verdict,
        string $result,
        Process $process,
        ?bool $ready,
        array $more = [],
    ): void {
        $isResult = $verdict !== null && $verdict[0] === "" && !isset($more["resultType"]);
        // Where stdout is the result it is no log.
        $out = $isResult ? "" : $process->out->cut();
        $err = $process->err->cut();
        $printed = ($isResult ? 0 : $process->out->total) + $process->err->total;
        $header = ["attempt" => $attempt, "omitted" => $printed - strlen($out) - strlen($err)];
        if ($verdict === null) {
            $header += ["type" => "exit", "began" => true, "sizes" => [strlen($out), strlen($err)]];
            $this->answer($header, $out . $err, $ready);
            return;
        }
        [$code, $message] = $verdict;
        $status = ["" => "DONE", "oom" => "OOM"][$code] ?? "FAILED";
        $header += ["type" => "result", "status" => $status, "code" => $code] + $more;
        $header["message"] = clip($message);
        $header["sizes"] = [strlen($result), strlen($out), strlen($err)];
        $this->answer($header, $result . $out . $err, $ready);
    }
}

/** Script and command mode: each call is a process of its own. */
final class PerCall
{
    private array $argv;

    public function __construct(private Sandbox $sandbox)
    {
        $this->argv = argvOf($sandbox->init["run"]);
        if (!$this->argv) {
            throw new Broken("function", "command_not_found", "neither run nor entry is given");
        }
    }

    public function streams(): array
    {
        return [];
    }

    public function look(): void
    {
    }

    public function begin(array $message, string $params): void
    {
        $box = $this->sandbox;
        $env = $box->envOf($message, $params) + $box->init["env"];
        $missing = missing($this->argv[0], $env["PATH"] ?? "/usr/bin:/bin");
        $file = $env["SKEP_PARAMS_FILE"] ?? $box->file($params);
        [$argv, $more] = $missing ? [["/bin/false"], []] : watched($this->argv);
        [$limits, $path] = [$box->init["limits"], $box->init["path"]];
        $most = $limits["result"];
        $process = new Process($argv, $env + $more, $file, $limits, $most, $path);
        if (!isset($env["SKEP_PARAMS_FILE"])) {
            unlink($file);
        }
        $killed = false;
        while (!$process->hasEnded()) {
            if ($box->isToEnd($message["attempt"], $process->wait([$box->control], LOOK_US))) {
                $killed = true;
                break;
            }
        }
        $isClean = clear($process);
        $process->drain();
        $verdict = $missing ? ["command_not_found", $missing] : verdictOf($process);
        if ($verdict[0] === "" && (!$process->out->isWhole() || $process->out->total > $most)) {
            $text = "it printed {$process->out->total} bytes to stdout; a result may have $most";
            $verdict = ["result_too_large", $text];
        }
        $process->close();
        $goesOn = $box->canGoOn($isClean) ?: null;
        $result = $verdict[0] === "" && !$killed ? $process->out->whole() : "";
        $box->end($message["attempt"], $killed ? null : $verdict, $result, $process, $goesOn);
    }
}

/** Handler mode: the first process beside its host, which has loaded the function. */
final class Keeper
{
    private Process $host;

    public function __construct(private Sandbox $sandbox)
    {
        $this->load();
    }

    /** What a host prints between calls is of the next one; if it ends, another loads. */
    public function streams(): array
    {
        return [];
    }

    public function look(): void
    {
    }

    private function load(): void
    {
        ["init" => $init] = ["init" => $this->sandbox->init];
        $limit = (string) $init["limits"]["result"];
        $argv = [PHP_BINARY, ...SETTINGS, __FILE__, "--host", $init["entry"], $limit];
        $folder = $init["path"];
        $this->host = new Process($argv, $init["env"], "/dev/null", $init["limits"], 0, $folder);
        $until = microtime(true) + LOAD_S;
        while (($said = $this->host->frame()) === null) {
            if ($this->sandbox->isToEnd(0, $this->host->wait([$this->sandbox->control], LOOK_US))) {
                leave();
            }
            if ($this->host->hasEnded()) {
                $this->host->drain();
                $said = $this->host->frame();
                $text = "its process ended while it was loaded: " . verdictOf($this->host)[1];
                $said === null && $this->fail($text);
                break;
            }
            microtime(true) > $until && $this->fail("loading it took longer than " . LOAD_S . " s");
        }
        if (!isset($said[0]["loaded"])) {
            $this->fail("{$init['entry']}: " . ($said[0]["failed"] ?? "it wrote to its agent"));
        }
    }

    private function fail(string $message): never
    {
        $this->host->drain();
        $log = $this->host->out->cut() . $this->host->err->cut();
        throw new Broken("function", "entry_not_found", $message, $log);
    }

    public function begin(array $message, string $params): void
    {
        [$box, $attempt] = [$this->sandbox, $message["attempt"]];
        if ($this->host->hasEnded()) {
            // It died of something that it left behind; nothing of this call has begun.
            $this->again();
        }
        $env = $box->envOf($message, $params);
        $this->host->order(encode(["env" => $env], $params));
        $killed = false;
        while (($said = $this->host->frame()) === null && !$this->host->hasEnded()) {
            if ($box->isToEnd($attempt, $this->host->wait([$box->control], LOOK_US))) {
                $killed = true;
                break;
            }
        }
        $this->finish($attempt, $said, $killed, $env["SKEP_PARAMS_FILE"] ?? "");
    }

    private function finish(int $attempt, ?array $said, bool $killed, string $file): void
    {
        $box = $this->sandbox;
        $ends = $killed || $said === null || isset($said[0]["last"])
            || $box->init["isolation"] === "fork";
        $isClean = $ends ? clear($this->host) : true;
        $this->host->drain();
        [$header, $result] = $said ?? $this->host->frame() ?? [null, ""];
        $verdict = $header ? [$header["code"] ?? "exit_code", $header["message"] ?? ""]
            : verdictOf($this->host, isHandler: true);
        $more = $verdict[0] === "" ? ["resultType" => "json"] : [];
        $more += isset($header["peakMemory"]) ? ["peakMemory" => $header["peakMemory"]] : [];
        $ready = $ends ? ($box->canGoOn($isClean) ? false : null) : true;
        $file && !$ends && @unlink($file);
        $verdict = $killed ? null : $verdict;
        $box->end($attempt, $verdict, $killed ? "" : $result, $this->host, $ready, $more);
        if ($ends) {
            $this->again();
            $box->tell(["type" => "ready"]);
        } else {
            $this->host->forget();
        }
    }

    private function again(): void
    {
        clear($this->host) || leave();
        $this->host->close();
        try {
            $this->load();
        } catch (Broken $error) {
            fwrite(STDERR, "it cannot be loaded again: {$error->getMessage()}\n");
            leave();
        }
    }
}

// --- how a call is run, and how it ended ---------------------------------------------------

/** Return the words of a command; one that means something to a shell is for sh. */
function argvOf(string $run): array
{
    $line = trim($run);
    // In single quotes nothing has a meaning to sh either.
    if (preg_match(SHELL, (string) preg_replace("/'[^']*'/", "", $line))) {
        return ["/bin/sh", "-c", $line];
    }
    preg_match_all("/(?:'[^']*'|[^\\s'])+/", $line, $words);
    return array_map(fn ($word) => str_replace("'", "", $word), $words[0]);
}

/** Let a script of PHP's say what it throws: this file is loaded before it. */
function watched(array $argv): array
{
    if (!preg_match('/^php(\d(\.\d)?)?$/', $argv[0]) || str_starts_with($argv[1] ?? "-", "-")) {
        return [$argv, []];
    }
    // Its #! line would be printed: it is dropped from a buffer that ends with it.
    $more = ["-d", "auto_prepend_file=" . __FILE__, "-d", "output_buffering=4096"];
    return [[$argv[0], ...SETTINGS, ...$more, ...array_slice($argv, 1)], [REPORTS => "1"]];
}

/** Return why a command cannot be run; empty if it can. */
function missing(string $program, string $path): string
{
    $isPath = str_contains($program, "/");
    $places = $isPath ? [$program] : array_map(fn ($f) => "$f/$program", explode(":", $path));
    $files = array_filter($places, "is_file");
    $text = "the command '$program' cannot be run: ";
    if (!$files) {
        return "{$text}No such file or directory";
    }
    $runs = array_filter($files, "is_executable");
    if (!$runs) {
        return "{$text}Permission denied: is it executable? chmod +x it before packing";
    }
    $line = (string) file_get_contents(reset($runs), false, null, 0, 255);
    preg_match('/^#!\s*(\S+)/', $line, $found);
    $why = "No such file or directory: what its #! line names is not there";
    return $found && !is_file($found[1]) ? $text . $why : "";
}

function verdictOf(Process $process, bool $isHandler = false): array
{
    $status = $process->status ?? ["signaled" => false, "exitcode" => 0];
    if ($status["signaled"]) {
        return ["signal", "it was ended by the signal " . signalName($status["termsig"])];
    }
    if ($isHandler) {
        $text = "its process exited with the code {$status['exitcode']}: a handler returns";
        return ["exit_code", "$text its result"];
    }
    if ($status["exitcode"] === 0) {
        return ["", ""];
    }
    $said = $process->frame();
    if (isset($said[0]["last"])) {
        return [$said[0]["code"] === "oom" ? "oom" : "raised", (string) $said[0]["message"]];
    }
    return ["exit_code", "it exited with the code {$status['exitcode']}"];
}

function signalName(int $number): string
{
    $names = [
        1 => "HUP", 2 => "INT", 3 => "QUIT", 4 => "ILL", 5 => "TRAP", 6 => "ABRT", 7 => "BUS",
        8 => "FPE", 9 => "KILL", 10 => "USR1", 11 => "SEGV", 12 => "USR2", 13 => "PIPE",
        14 => "ALRM", 15 => "TERM", 24 => "XCPU", 25 => "XFSZ", 31 => "SYS",
    ];
    return isset($names[$number]) ? "SIG{$names[$number]}" : "number $number";
}

// --- in a process of the function ----------------------------------------------------------

/** Return what an error that ended this process says of it; null if there was none. */
function lastWords(): ?array
{
    $error = error_get_last();
    if ($error === null || !($error["type"] & (E_ERROR | E_PARSE | E_COMPILE_ERROR))) {
        return null;
    }
    $text = $error["message"];
    if (str_starts_with($text, "Out of memory") || str_starts_with($text, "Allowed memory")) {
        return ["last" => true, "code" => "oom", "message" => ""];
    }
    $text = preg_replace('/^Uncaught (.*?) in \S+:\d+\nStack trace:.*/s', '$1', $text);
    return ["last" => true, "code" => "raised", "message" => clip((string) $text)];
}

/** The function that `entry` names, in the process that has loaded it. */
final class Host
{
    public static self $it;
    public string $file;
    private string $name;
    private string $function;
    private bool $runs = false;
    private bool $isLoaded = false;
    private $orders;
    private $report;

    public function __construct(string $entry, private int $limit)
    {
        self::$it = $this;
        $this->orders = fopen("php://fd/" . ORDERS, "r");
        $this->report = fopen("php://fd/" . REPORT, "w");
        register_shutdown_function(fn () => $this->leave());
        if (!preg_match('/^(.+)[.:]([^.:]+)$/', $entry, $found)) {
            $this->fail("entry '$entry' is not module.function, such as hello.main");
        }
        [, $module, $this->name] = $found;
        $this->file = getcwd() . "/" . str_replace(".", "/", $module) . ".php";
        if (!is_file($this->file)) {
            $this->fail("there is no file " . str_replace(".", "/", $module) . ".php");
        }
    }

    public function fail(string $message): never
    {
        send($this->report, encode(["failed" => clip($message)]));
        $this->isLoaded = true;
        exit(1);
    }

    /** Look up the function, in whatever namespace the file has put it. */
    public function find(array $before): void
    {
        $names = array_diff(get_defined_functions()["user"], $before);
        $wanted = strtolower($this->name);
        foreach ($names as $name) {
            if ($name === $wanted || str_ends_with($name, "\\$wanted")) {
                $this->function = $name;
            }
        }
        if (!isset($this->function)) {
            sort($names);
            $has = implode(", ", array_slice($names, 0, 10)) ?: "none";
            $file = basename($this->file);
            $this->fail("the file $file has no function '{$this->name}'; it has $has");
        }
    }

    public function serve(): never
    {
        $this->isLoaded = true;
        send($this->report, encode(["loaded" => true]));
        stream_set_read_buffer($this->orders, 0);
        while ($call = receive($this->orders)) {
            [["env" => $env], $params] = $call;
            putenv("SKEP_PARAMS");
            putenv("SKEP_PARAMS_FILE");
            foreach ($env as $name => $value) {
                putenv("$name=$value");
            }
            $this->runs = true;
            [$verdict, $result] = $this->run($params);
            $this->runs = false;
            while (ob_get_level()) {
                ob_end_flush();
            }
            $verdict["peakMemory"] = getrusage()["ru_maxrss"] * 1024;
            send($this->report, encode($verdict, $result));
        }
        exit(0);
    }

    private function run(string $params): array
    {
        try {
            $given = json_decode($params, true, 512, JSON_THROW_ON_ERROR);
            $function = $this->function;
            $value = is_array($given) ? $function(...$given) : $function($given);
            $result = $this->asJson($value);
        } catch (\Throwable $error) {
            printError($error);
            return [["code" => "raised", "message" => textOf($error)], ""];
        }
        if (strlen($result) <= $this->limit) {
            return [["code" => "", "message" => ""], $result];
        }
        $size = strlen($result);
        $text = "its result has $size bytes; one may have {$this->limit}";
        return [["code" => "result_too_large", "message" => $text], ""];
    }

    private function asJson(mixed $value): string
    {
        $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES
            | JSON_PRESERVE_ZERO_FRACTION;
        try {
            return json_encode($value, $flags);
        } catch (\JsonException $error) {
            $kind = get_debug_type($value);
            throw new \TypeError("it returned a $kind that cannot be JSON: {$error->getMessage()}");
        }
    }

    private function leave(): void
    {
        $words = lastWords();
        if (!$this->isLoaded) {
            send($this->report, encode(["failed" => $words["message"] ?? "it called exit()"]));
        } elseif ($this->runs && $words) {
            send($this->report, encode($words));
        }
    }
}

/** Print an exception as PHP does, without the lines of this file. */
function printError(\Throwable $error): void
{
    $lines = explode("\n", (string) $error);
    $own = fn ($line) => str_contains($line, __FILE__ . "(") || str_contains($line, "{main}");
    fwrite(STDERR, implode("\n", array_filter($lines, fn ($line) => !$own($line))) . "\n");
}

function textOf(\Throwable $error): string
{
    return clip(get_class($error) . ": " . $error->getMessage());
}

// --- which of the three this process is ----------------------------------------------------

if (getenv(REPORTS)) {
    ob_end_clean();
    putenv(REPORTS);
    unset($_SERVER[REPORTS], $_ENV[REPORTS]);
    register_shutdown_function(function (): void {
        if ($words = lastWords()) {
            @file_put_contents("php://fd/" . REPORT, encode($words));
        }
    });
} elseif (($argv[1] ?? "") === "--host") {
    new Host($argv[2], (int) $argv[3]);
    $argv = [$argv[2]];
    $argc = 1;
    try {
        $skep_before = get_defined_functions()["user"];
        require Host::$it->file;
        Host::$it->find($skep_before);
        unset($skep_before);
    } catch (\Throwable $error) {
        printError($error);
        Host::$it->fail(textOf($error));
    }
    Host::$it->serve();
} else {
    strictly();
    // On stdout its own complaints would be answers.
    ini_set("display_errors", "stderr");
    (new Sandbox($argv[1]))->serve();
}
