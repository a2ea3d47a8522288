# A server that answers one request at a time with the params that it was sent.
use strict; use warnings; use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => $ENV{PORT}, Listen => 5, ReuseAddr => 1) or die;
while (my $client = $server->accept) {
    my ($line, $size, $params) = ("-", 0, "");
    until ($line =~ /^\r?$/) {
        $line = <$client> // last;
        $size = $1 if $line =~ /^Content-Length: (\d+)/i;
        chomp $line;
    }
    read $client, $params, $size;
    print $client "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"params\":$params}";
    close $client;
}
