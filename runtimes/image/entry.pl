#!/usr/bin/perl
# The first process of an image that a function is baked into (skep function build):
#
#   docker run IMAGE PARAMS            one call: its result on stdout, what else it prints on stderr
#   docker run -i IMAGE - <PARAMS      the same, its params on stdin
#   docker run -p 5000:5000 IMAGE      POST / with the params as JSON; GET /healthz; PORT is another port
#
# To the agent of the function's language it is what a miniworker is on a node, by stdin and stdout
# (docs/protocol.md, "Miniworker and agent"), one call at a time. Perl, for every Debian image has it;
# of its modules only what the package perl-base has.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use POSIX qw(:sys_wait_h);

my ($FOLDER) = $0 =~ m{^(.*)/};
my $START_S = 15;     # until an agent says hello
my $LOAD_S = 50;      # until it has loaded the function
my $KILL_S = 3;       # until it has ended a call that it was told to
my $IDLE_S = 30;      # until who connected has sent a request
my $BODY_BYTES = 6 << 20;
my $HEAD_BYTES = 16 << 10;
my $PIECE_BYTES = 64 << 10;
my $HELD = 256;       # connections at once
# What an interpreter reads at its start is the agent's too; nothing else of the function's is.
my @OF_AGENT = qw(PATH LANG HOME TMPDIR);
my %REASONS = (
    200 => "OK", 400 => "Bad Request", 404 => "Not Found", 405 => "Method Not Allowed",
    411 => "Length Required", 413 => "Content Too Large", 431 => "Request Header Fields Too Large",
    500 => "Internal Server Error", 504 => "Gateway Timeout",
);

my %agent;
my $serial = 0;
my $timeout_s = ($ENV{SKEP_TIMEOUT} || "") =~ /^(\d+(?:\.\d+)?)$/ ? $1 : 5;

# --- JSON: checked, quoted, and fields read from an agent's flat objects ---

sub quoted {
    my $text = shift;
    $text =~ s/([\x00-\x1f"\\])/sprintf "\\u%04x", ord $1/ge;
    return "\"$text\"";
}

sub object {
    my %pairs = @_;
    return "{" . join(",", map { quoted($_) . ":" . quoted($pairs{$_}) } sort keys %pairs) . "}";
}

sub field {    # as its JSON; what a string holds has no bare quotes, so that none is found in it
    my ($json, $name) = @_;
    return $json =~ /"$name"\s*:\s*("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[\w.+-]+)/s ? $1 : "";
}

sub word { my $json = field(@_); $json =~ s/^"|"$//g; return $json }

sub is_string {
    return if $_[0] !~ /\G"/gc;
    1 while $_[0] =~ /\G(?:[^"\\\x00-\x1f]+|\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4}))/gc;
    return $_[0] =~ /\G"/gc;
}

sub is_json {    # one token after another, with the brackets that are open
    my @open;
    my $wants = "value";
    pos($_[0]) = 0;
    while (1) {
        $_[0] =~ /\G[ \t\r\n]+/gc;
        if ($wants eq "end") {
            return pos($_[0]) == length $_[0] if !@open;
            if ($_[0] =~ /\G,/gc) { $wants = $open[-1] eq "}" ? "key" : "value"; next }
            return 0 if $_[0] !~ /\G\Q$open[-1]\E/gc;
            pop @open;
        }
        elsif ($wants eq "key" || $wants eq "first") {
            if ($wants eq "first" && $_[0] =~ /\G\}/gc) { pop @open; $wants = "end"; next }
            return 0 if !is_string($_[0]) || $_[0] !~ /\G[ \t\r\n]*:/gc;
            $wants = "value";
        }
        elsif ($_[0] =~ /\G\{/gc) { push @open, "}"; $wants = "first" }
        elsif ($_[0] =~ /\G\[/gc) {
            push @open, "]";
            if ($_[0] =~ /\G[ \t\r\n]*\]/gc) { pop @open; $wants = "end" }
        }
        elsif (is_string($_[0])
            || $_[0] =~ /\G(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)/gc)
        {
            $wants = "end";
        }
        else { return 0 }
    }
}

# --- the agent: frames of two lengths, a JSON object, a body ---

sub give {
    my ($header, $body) = @_;
    my $left = pack("NN", length $header, length $body) . $header . $body;
    while (length $left) {
        my $sent = syswrite $agent{to}, $left;
        if (!defined $sent) { next if $!{EINTR}; return 0 }
        substr $left, 0, $sent, "";
    }
    return 1;
}

sub hear {    # (header, body); () after so many seconds, or when it has ended: then no agent is left
    my $left = shift;
    while (1) {
        my ($header, $body) = length $agent{held} >= 8 ? unpack "NN", $agent{held} : (0, 0);
        if ($header && length $agent{held} >= 8 + $header + $body) {
            my (undef, $frame) = unpack "a8 a" . ($header + $body), substr $agent{held}, 0, 8 + $header + $body, "";
            return (substr($frame, 0, $header), substr $frame, $header);
        }
        vec(my $bits = "", fileno $agent{from}, 1) = 1;
        # Linux says how much of the time is left.
        (my $count, $left) = select $bits, undef, undef, $left;
        next if $count < 0 && $!{EINTR};
        return () if $count <= 0;
        if (!sysread $agent{from}, $agent{held}, $PIECE_BYTES, length $agent{held}) {
            end_agent();
            return ();
        }
    }
}

sub end_agent {
    return if !$agent{pid};
    kill KILL => $agent{pid};
    waitpid $agent{pid}, 0;
    %agent = ();
    1 while waitpid(-1, WNOHANG) > 0;
}

sub start_agent {    # why it cannot be, as an outcome; nothing if it is ready
    pipe my $in, my $to or die "pipe: $!";
    pipe my $from, my $out or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        POSIX::dup2(fileno $in, 0);
        POSIX::dup2(fileno $out, 1);
        %ENV = map { exists $ENV{$_} ? ($_ => $ENV{$_}) : () } @OF_AGENT;
        close $_ for $in, $to, $from, $out;
        exec "$FOLDER/agent", "-" or POSIX::_exit(127);
    }
    close $_ for $in, $out;
    binmode $_ for $to, $from;
    %agent = (pid => $pid, to => $to, from => $from, held => "");
    my ($hello) = hear($START_S);
    return lost("its agent does not start") if !$hello || word($hello, "type") ne "hello";
    give(init(), "");
    my ($ready, $printed) = hear($LOAD_S);
    return lost("its agent did not get ready") if !$ready;
    return if word($ready, "type") eq "ready";
    end_agent();
    return {
        status => "FAILED", code => word($ready, "code"), message => field($ready, "message"),
        logs => $printed,
    };
}

sub init {
    open my $file, "<:raw", "$FOLDER/init.json" or die "$FOLDER/init.json: $!";
    my $json = do { local $/; <$file> };
    # The function sees what docker run --env says, and what the image does.
    my %env = map { my $text = $ENV{$_}; utf8::decode($text) ? ($_ => $ENV{$_}) : () } keys %ENV;
    delete @env{qw(HOSTNAME PORT SKEP_TIMEOUT)};
    $json =~ s/\}\s*\z//;
    return $json . ',"env":' . object(%env) . "}";
}

sub lost {
    my $why = shift;
    end_agent();
    return { status => "FAILED", code => "sandbox_lost", message => quoted($why), logs => "" };
}

sub clean {    # what an agent that has ended left where the next one puts the code
    my ($path) = word(init(), "path") =~ m{^(/.+)$} or return;
    system "find", $path, "-mindepth", "1", "-delete";
}

sub call {
    my $params = shift;
    if ($agent{waits}) {
        my ($ready) = hear($LOAD_S);
        $agent{waits} = 0;
        end_agent() if !$ready || word($ready, "type") ne "ready";
    }
    if (!$agent{pid}) {
        clean() if $serial;
        my $why = start_agent();
        return $why if $why;
    }
    $serial++;
    my $env = object(SKEP_CALL => $serial);
    my $milliseconds = int(1000 * $timeout_s);
    my $sent = give(
        qq({"type":"call","call":$serial,"attempt":$serial,"timeoutMs":$milliseconds,"env":$env}), $params
    );
    my ($header, $body) = $sent ? hear($timeout_s) : ();
    return ended($header, $body) if $header;
    return lost("the function ended its agent") if !$sent || !$agent{pid};
    return overdue();
}

sub overdue {
    give(qq({"type":"kill","attempt":$serial}), "");
    my ($header, $body) = hear($KILL_S);
    end_agent() if !$header;
    # It may have ended by itself just then.
    return ended($header, $body) if $header && word($header, "type") eq "result";
    $agent{waits} = 1 if $header && word($header, "ready") eq "false";
    my $message = quoted("it ran longer than $timeout_s s");
    return { status => "TIMEOUT", code => "timeout", message => $message, logs => $body // "" };
}

sub ended {
    my ($header, $body) = @_;
    $agent{waits} = 1 if word($header, "ready") eq "false";
    my ($size) = field($header, "sizes") =~ /(\d+)/;
    return {
        status => word($header, "status"), code => word($header, "code"),
        message => field($header, "message") || '""', type => word($header, "resultType"),
        result => substr($body, 0, $size // 0), logs => substr($body, $size // 0),
    };
}

# --- once, or over HTTP ---

sub log_of { my $logs = shift->{logs}; print STDERR $logs if length $logs }

sub once {
    my $params = shift;
    $params = do { local $/; <STDIN> } if $params eq "-";
    $params = "{}" if $params !~ /\S/;
    if (!is_json($params)) {
        print STDERR "the params are no JSON: docker run IMAGE '{\"name\": \"value\"}'\n";
        exit 2;
    }
    my $end = call($params);
    log_of($end);
    if ($end->{status} eq "DONE") {
        $end->{result} =~ s/\n\z//;
        print $end->{result}, "\n";
        exit 0;
    }
    print STDERR "$end->{status} ($end->{code}): $end->{message}\n";
    exit 1;
}

sub response {
    my ($status, $type, $body, @more) = @_;
    my @head = ("HTTP/1.1 $status $REASONS{$status}", "Content-Type: $type", @more,
        "Content-Length: " . length $body, "Connection: close");
    return join("\r\n", @head) . "\r\n\r\n" . $body;
}

sub complaint {    # its message as JSON
    my ($status, $code, $message, @more) = @_;
    my $error = qq({"error":{"code":) . quoted($code) . qq(,"message":$message}}\n);
    return response($status, "application/json", $error, @more);
}

sub answer {
    my ($method, $path, $body) = @_;
    $path =~ s/\?.*//s;
    return response(200, "text/plain", "ok\n") if $path eq "/healthz" && $method =~ /^(?:GET|HEAD)$/;
    return complaint(404, "not_found", quoted("POST / calls the function")) if $path ne "/";
    return complaint(405, "bad_request", quoted("POST / calls the function"), "Allow: POST")
        if $method ne "POST";
    $body = "{}" if $body !~ /\S/;
    return complaint(400, "bad_request", quoted("the body is no JSON")) if !is_json($body);
    my $end = call($body);
    log_of($end);
    if ($end->{status} ne "DONE") {
        return complaint($end->{status} eq "TIMEOUT" ? 504 : 500, $end->{code}, $end->{message});
    }
    my $type = $end->{type} eq "json" ? "application/json" : "text/plain; charset=utf-8";
    return response(200, $type, $end->{result});
}

sub asked {    # what a connection has sent as (method, path, body); an answer; () if more has to come
    my $one = shift;
    my ($head, $rest) = split /\r?\n\r?\n/, $one->{held}, 2;
    if (!defined $rest) {
        return length $one->{held} > $HEAD_BYTES ? complaint(431, "too_large", quoted("the head is too long")) : ();
    }
    my ($method, $path) = $head =~ m{^([A-Z]+) (/\S*) HTTP/1\.[01]\r?(?:\n|\z)}
        or return complaint(400, "bad_request", quoted("this is no request of HTTP/1.1"));
    my ($size) = $head =~ /^content-length:[ \t]*(\d{1,12})[ \t]*\r?$/im;
    return complaint(411, "bad_request", quoted("say its Content-Length"))
        if $head =~ /^transfer-encoding:/im || ($method eq "POST" && !defined $size);
    $size //= 0;
    return complaint(413, "too_large", quoted("params may have $BODY_BYTES bytes")) if $size > $BODY_BYTES;
    if (length $rest < $size) {
        if ($head =~ /^expect:[ \t]*100-continue/im && !$one->{continued}++) {
            syswrite $one->{socket}, "HTTP/1.1 100 Continue\r\n\r\n";
        }
        return ();
    }
    return ($method, $path, substr $rest, 0, $size);
}

sub serve {
    my $port = $ENV{PORT} || 5000;
    my $listener = IO::Socket::INET->new(
        LocalAddr => "0.0.0.0", LocalPort => $port, Listen => 128, ReuseAddr => 1
    ) or die "port $port: $@\n";
    if (my $why = start_agent()) {
        log_of($why);
        print STDERR "$why->{status} ($why->{code}): $why->{message}\n";
        exit 1;
    }
    print STDERR "serving POST / on port $port\n";
    my %open;
    while (1) {
        my $polled = IO::Select->new($listener, map { $_->{socket} } values %open);
        for my $socket ($polled->can_read(1)) {
            if ($socket == $listener) {
                my $new = $listener->accept or next;
                $open{$new} = { socket => $new, held => "", since => time } if keys %open < $HELD;
            }
            else { read_from($open{$socket}) and delete $open{$socket} }
        }
        for my $one (values %open) { delete $open{ $one->{socket} } if time - $one->{since} > $IDLE_S }
        # What lost its parent is ours to bury; an agent that ended is started with the next call.
        while ((my $pid = waitpid(-1, WNOHANG)) > 0) { %agent = () if $pid == ($agent{pid} // 0) }
    }
}

sub read_from {    # whether nothing more is wanted of a connection
    my $one = shift;
    return 1 if !sysread $one->{socket}, $one->{held}, $PIECE_BYTES, length $one->{held};
    my @found = asked($one) or return 0;
    my $left = @found == 1 ? $found[0] : answer(@found);
    # Who does not read shall not keep the others waiting for long.
    setsockopt $one->{socket}, SOL_SOCKET, SO_SNDTIMEO, pack "l!l!", 10, 0;
    while (length $left) {
        my $sent = syswrite $one->{socket}, $left;
        last if !$sent;
        substr $left, 0, $sent, "";
    }
    shutdown $one->{socket}, 1;
    return 1;
}

$SIG{PIPE} = "IGNORE";
$SIG{$_} = sub { end_agent(); exit 0 } for qw(TERM INT);
binmode $_ for *STDIN, *STDOUT, *STDERR;
STDERR->autoflush(1);
STDOUT->autoflush(1);
@ARGV ? once($ARGV[0]) : serve();
