#!/usr/bin/perl
# A whole agent: each call is a process that runs the command in sh. See docs/runtimes.md.
use strict; use warnings;
use POSIX qw(WNOHANG setsid _exit);
use Socket qw(PF_UNIX SOCK_STREAM sockaddr_un);
my ($LOG, $RESULT, $child) = (128 << 10, 6 << 20, 0);
my ($STRING, %PLAIN) = (qr/"(?:[^"\\]|\\.)*"/s, n => "\n", t => "\t", r => "\r");

sub text { substr(shift, 1, -1) =~ s/\\(?:u(....)|(.))/$1 ? chr hex $1 : $PLAIN{$2} || $2/gesr }
sub env { my ($s) = shift =~ /"env":\{((?:$STRING[:,]?)*)\}/; map { text($_) } $s =~ /$STRING/g }
sub end_all { kill KILL => $$ == 1 ? -1 : ($child, -$child); 1 while waitpid(-1, 0) > 0 }
sub leave { end_all() if $child; exit }
sub meet { socket my $s, PF_UNIX, SOCK_STREAM, 0; connect $s, sockaddr_un(shift) or die; $s }
sub take {    # exactly so many bytes; when the miniworker is gone everything ends
    my ($from, $size, $got) = (@_, "");
    while (length $got < $size) { sysread $from, $got, $size - length $got, length $got or leave() }
    return $got;
}
sub frame { my ($h, $b) = unpack "NN", take($_[0], 8); (take($_[0], $h), take($_[0], $b)) }
sub answer {    # a frame: two lengths, a JSON object, a body; by stdout to what came by stdin
    my ($to, $header, $body) = @_;
    my $left = pack("NN", length $header, length $body) . $header . $body;
    while (length $left) { substr $left, 0, syswrite(fileno $to ? $to : *STDOUT, $left) || leave(), "" }
}
sub printed {    # what is kept of it, and how much is not
    my ($file, $most, $kept) = @_;
    sysseek $file, 0, 0; sysread $file, $kept, $most; return $kept, (-s $file) - length $kept;
}
my ($control, $data) = map { $ARGV[0] eq "-" ? \*STDIN : meet($ARGV[0]) } 1, 2;
answer($control, qq({"type":"hello","protocol":1,"pid":$$,"mark":false}), "");
my ($init) = frame($control);
my ($path, $bundle, $run) = map { $init =~ /"$_":($STRING)/ ? text($1) : "" } qw(path bundle run);
symlink $_, $path . substr $_, length $bundle for glob "\Q$bundle\E/{*,.[!.]*}";
chdir $path; %ENV = env($init);
answer($control, $run ? '{"type":"ready"}' : '{"type":"broken","fault":"function",' .
    '"code":"command_not_found","message":"this agent runs commands only"}', "");
while (my ($call, $params) = frame($data)) {
    my ($attempt, $killed) = $call =~ /"type":"call".*?"attempt":(\d+)/ or next;    # too late
    my ($in, $out, $err) = map { open my $file, "+>", undef or leave(); $file } 1 .. 3;
    syswrite $in, $params; sysseek $in, 0, 0;
    if (!($child = fork // leave())) {
        open STDIN, "<&", $in; open STDOUT, ">&", $out; open STDERR, ">&", $err; setsid();
        %ENV = (%ENV, env($call)); exec "/bin/sh", "-c", $run or _exit(127);
    }
    until (waitpid $child, WNOHANG) {    # the miniworker may have it killed
        my $bits = ""; vec($bits, fileno $control, 1) = 1;
        next if !select $bits, undef, undef, 0.01 or (frame($control))[0] !~ /:$attempt\b/;
        $killed = kill KILL => $child, -$child;
    }
    my $status = $?; end_all();    # what it left behind ends too
    my $code = $status & 127 ? "signal" : $status ? "exit_code" : "";
    $code ||= "result_too_large" if -s $out > $RESULT;
    my (($o, $cut), ($e, $more)) = (printed($out, $code ? $LOG : $RESULT), printed($err, $LOG));
    my $sizes = join ",", map { length } $killed ? ($o, $e) : $code ? ("", $o, $e) : ($o, "", $e);
    my $rest = qq("attempt":$attempt,"sizes":[$sizes],"omitted":) . ($cut + $more);
    if ($killed) { answer($control, qq({"type":"exit","began":true,$rest}), $o . $e); next }
    my $end = $code ? qq("FAILED","code":"$code","message":"its status is $status") : '"DONE"';
    answer($data, qq({"type":"result","status":$end,$rest}), $o . $e);
}
