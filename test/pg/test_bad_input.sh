#!/bin/bash
# Wrong flags, directories and ports, and bytes that aren't the protocol: each a clear error, and nobody else disturbed.
. "$(dirname "$0")/../../scripts/lib.sh"
new_tmp bad

dev() { timeout 30 "$MULTIGRES" dev --listen "127.0.0.1:$(free_port)" --http "127.0.0.1:$(free_port)" \
	--control "127.0.0.1:$(free_port)" --pg-port "$(free_port)" "$@"; }
# Runs it, wants a failure that isn't a time-out or a signal, with TEXT in what it says.
refuses() { # TEXT ARGUMENT...
	local text=$1 out status
	shift
	out=$("$@" 2>&1)
	status=$?
	say "$out"
	say "status $status"
	[ $status != 0 ] && [ $status -lt 124 ] && grep -qiE -- "$text" <<<"$out"
}

check unknown_flag refuses '--frobnicate' dev --data "$NEW_TMP/a" --frobnicate
check missing_value refuses '--data' timeout 30 "$MULTIGRES" dev --data
check bad_port refuses '--listen|port' dev --data "$NEW_TMP/a" --listen 127.0.0.1:99999
check bad_address refuses '--listen|address' dev --data "$NEW_TMP/a" --listen nonsense
check bad_worker_count refuses '--workers' dev --data "$NEW_TMP/a" --workers many
mkdir "$NEW_TMP/other" && : >"$NEW_TMP/other/somebody_elses"
check foreign_directory refuses 'empty|other|not a' dev --data "$NEW_TMP/other"
foreign_directory_is_untouched() { [ "$(ls -A "$NEW_TMP/other")" = somebody_elses ]; }
check foreign_directory_is_untouched foreign_directory_is_untouched
: >"$NEW_TMP/file"
check data_is_a_file refuses 'directory' dev --data "$NEW_TMP/file"
# A Postgres that can't be reached may come later: the node stays, and says why it doesn't serve.
unreachable_attach() {
	pick_ports GATE HTTP CONTROL
	timeout 5 "$MULTIGRES" dev --data "$NEW_TMP/attach" --attach "host=127.0.0.1 port=$(free_port) user=postgres" \
		--listen "127.0.0.1:$GATE" --http "127.0.0.1:$HTTP" --control "127.0.0.1:$CONTROL" 2>"$NEW_TMP/attach.log"
	grep -q 'not serving yet: .*Connection refused' "$NEW_TMP/attach.log" || { cat "$NEW_TMP/attach.log"; return 1; }
}
check unreachable_attach_says_why unreachable_attach

if start_cluster "$NEW_TMP/data"; then say "ok starts"; else say "not ok starts"; exit 1; fi
taken_port() { refuses "$CLUSTER_PORT.*--listen|--listen.*$CLUSTER_PORT" dev --data "$NEW_TMP/b" --listen "127.0.0.1:$CLUSTER_PORT"; }
check taken_port_names_the_flag taken_port

still_serves() { [ "$(psql -XAtq "$CLUSTER_URL" -c 'SELECT 1')" = 1 ]; }
send() { # NAME PERL-EXPRESSION: sends the bytes, wants the gate to answer or close within a bounded time, and to live on
	NAME=$1
	say_bytes() {
		perl -MSocket -e '
			$SIG{PIPE} = "IGNORE";
			socket(my $s, PF_INET, SOCK_STREAM, 0) or die; connect($s, sockaddr_in($ARGV[0], inet_aton("127.0.0.1"))) or die "connect: $!";
			my $bytes = eval $ARGV[1]; die $@ if $@;
			my $sent = 0;
			while ($sent < length $bytes) { my $n = syswrite($s, $bytes, 65536, $sent) or last; $sent += $n; last if $sent > 1 << 26 }
			shutdown($s, 1); alarm 20; my $got = ""; while (sysread($s, $got, 65536)) {}' "$CLUSTER_PORT" "$1" && still_serves
	}
	check "$NAME" say_bytes "$2"
}
send nothing '""'
send one_byte '"x"'
send short_length 'pack("N", 3)'
send huge_length 'pack("N", 0x7fffffff) . "x" x 1000'
send negative_length 'pack("N", 0xffffffff)'
send http_request '"GET / HTTP/1.0\r\n\r\n"'
send tls_hello '"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . "x" x 500'
send unknown_version 'pack("NN", 16, 9 << 16) . "user\0a\0\0"'
send unterminated_startup 'pack("NN", 12, 3 << 16) . "user"'
send no_user 'pack("NN", 9, 3 << 16) . "\0"'
send endless_parameters 'pack("NN", 9000, 3 << 16) . "a\0b\0" x 2247 . "\0\0\0\0"'
send cancel_for_nobody 'pack("NNNN", 16, 80877102, 1, 2)'
send short_cancel 'pack("NN", 8, 80877102)'
send ssl_request_twice 'pack("NN", 8, 80877103) x 2'
send startup_then_noise 'my $p = "user\0postgres\0\0"; pack("NN", 8 + length $p, 3 << 16) . $p . join("", map { chr(($_ * 7919) % 256) } 1 .. 100000)'
send startup_then_huge_message 'my $p = "user\0postgres\0\0"; pack("NN", 8 + length $p, 3 << 16) . $p . "Q" . pack("N", 0x7ffffff0) . "x" x 1000'
send startup_then_tiny_length 'my $p = "user\0postgres\0\0"; pack("NN", 8 + length $p, 3 << 16) . $p . "Q" . pack("N", 1)'
send query_without_end 'my $p = "user\0postgres\0\0"; pack("NN", 8 + length $p, 3 << 16) . $p . "Q" . pack("N", 12) . "SELECT 1"'
send noise 'join("", map { chr(($_ * $_ * 31 + $_) % 256) } 1 .. 1000000)'

violation_is_08P01() {
	perl -MSocket -e '
		socket(my $s, PF_INET, SOCK_STREAM, 0) or die; connect($s, sockaddr_in($ARGV[0], inet_aton("127.0.0.1"))) or die;
		my $p = "user\0postgres\0\0"; syswrite($s, pack("NN", 8 + length $p, 3 << 16) . $p . "y" . pack("N", 4));
		alarm 20; my $all = ""; while (sysread($s, my $got, 65536)) { $all .= $got } print $all =~ /C08P01\0/ ? "08P01\n" : "no 08P01\n"' "$CLUSTER_PORT" | grep -qx 08P01
}
check unknown_message_is_08P01 violation_is_08P01

many_half_open() { # sockets that connect and say nothing must not keep others out
	perl -MSocket -e '
		my @s; for (1 .. 300) { socket(my $s, PF_INET, SOCK_STREAM, 0) or die; connect($s, sockaddr_in($ARGV[0], inet_aton("127.0.0.1"))) or die; push @s, $s }
		exit system("psql", "-XAtqc", "SELECT 1", $ARGV[1]) ? 1 : 0' "$CLUSTER_PORT" "$CLUSTER_URL"
}
check half_open_clients_do_not_block_others many_half_open
if stop_cluster; then say "ok stops_cleanly"; else say "not ok stops_cleanly"; NOT_OK=$((NOT_OK + 1)); fi
checks_done
