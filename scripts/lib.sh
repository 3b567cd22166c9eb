# Helpers for the scripts and the tests that need servers: ports, a dev cluster, a plain Postgres, clean-up.
# Sourced by bash. Whoever sources it gets `set -u`, an EXIT trap that ends what was started here, and:
#
#   free_port                   prints a free TCP port below 32768 (bound once to be sure)
#   pick_ports VARIABLE...      sets each to a free port of its own
#   new_tmp NAME                makes a directory an unprivileged Postgres can reach, removed at exit, in NEW_TMP
#   start_cluster DIR [FLAG..]  runs `multigres dev` there; sets CLUSTER_PID CLUSTER_URL CLUSTER_PORT CLUSTER_HTTP
#                               CLUSTER_CONTROL CLUSTER_PG_PORT CLUSTER_PG_URL CLUSTER_LOG
#   stop_cluster                SIGTERM; fails when it doesn't end in time or ends with a bad status
#   start_direct_pg DIR [OPT..] a plain Postgres 15 for baselines; sets DIRECT_URL DIRECT_PORT
#   stop_direct_pg              stops it
#   wait_for SECONDS COMMAND..  until it succeeds; alive PID
#   check NAME COMMAND...       runs COMMAND, prints `ok NAME` or `not ok NAME` and its output; `checks_done` ends
#   with_db URL DB              prints URL with its database replaced

set -u
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PGBIN=${PGBIN:-/usr/lib/postgresql/15/bin}
MULTIGRES=${MULTIGRES:-$ROOT/build/multigres}
MGCTL=${MGCTL:-$(dirname "$MULTIGRES")/mgctl}
START_DEADLINE=${START_DEADLINE:-90}
STOP_DEADLINE=${STOP_DEADLINE:-30}
CLUSTER_PID= DIRECT_DIR= NEW_TMP= NOT_OK=0
LIB_TMP=()
export PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-10} PGAPPNAME=multigres-test
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() { warn "${0##*/}: $*"; exit 1; }

# The user Postgres runs as: ourselves, or `postgres` when we are root, for Postgres refuses root.
as_pg_user() {
	if [ "$(id -u)" = 0 ]; then
		local user=postgres
		id -u postgres >/dev/null 2>&1 || user=nobody
		(cd / && setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@")
	else
		"$@"
	fi
}

port_is_free() { # HOST PORT
	case $1 in \[* | *:*) return 0 ;; esac # IPv6: the server itself will say
	perl -MSocket -e '
		socket(my $s, PF_INET, SOCK_STREAM, 0) or exit 1;
		setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
		my $a = inet_aton($ARGV[0]) or exit 1;
		exit(bind($s, sockaddr_in($ARGV[1], $a)) && listen($s, 1) ? 0 : 1)' "$1" "$2"
}

free_port() {
	local port try
	for try in $(seq 200); do
		port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
		port_is_free 127.0.0.1 "$port" || continue
		say "$port"
		return 0
	done
	die "no free port found between 20000 and 32000"
}

pick_ports() { # VARIABLE... each gets another free port
	local var port given=" "
	for var in "$@"; do
		while port=$(free_port); do case $given in *" $port "*) ;; *) break ;; esac; done
		given="$given$port "
		printf -v "$var" %s "$port"
	done
}

new_tmp() { # NAME
	NEW_TMP=$(mktemp -d "${TMPDIR:-/tmp}/multigres-$1.XXXXXX") || die "can't make a temporary directory"
	chmod 755 "$NEW_TMP"
	LIB_TMP+=("$NEW_TMP")
}

with_db() { # URL DB
	case $1 in
	*'?'*) say "${1%%\?*}?${1#*\?}" | sed -E "s#^(postgres(ql)?://[^/]*)(/[^?]*)?\?#\1/$2?#" ;;
	*) say "$1" | sed -E "s#^(postgres(ql)?://[^/]*)(/.*)?\$#\1/$2#" ;;
	esac
}

# Waits until COMMAND succeeds, at most SECONDS.
wait_for() { # SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

# Whether PID runs; an ended child that nobody waited for yet doesn't.
alive() { kill -0 "$1" 2>/dev/null && ! grep -qs '^State:[[:space:]]*Z' "/proc/$1/status"; }

# Waits for our child PID to end, at most SECONDS; its status is in REAPED.
REAPED=0
wait_child() { # PID SECONDS
	local end=$((SECONDS + $2))
	while alive "$1"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
	wait "$1" 2>/dev/null
	REAPED=$?
	return 0
}

cluster_is_ready() {
	grep -q '^ready ' "$CLUSTER_LOG" || ! alive "$CLUSTER_PID"
}

start_cluster() { # DIR [FLAG...]
	local dir=$1
	shift
	[ -x "$MULTIGRES" ] || die "$MULTIGRES isn't built (make)"
	mkdir -p "$dir"
	# A restart on the same directory keeps its ports, as clients expect; CLUSTER_PORT= asks for new ones.
	if [ "${CLUSTER_DIR:-}" != "$dir" ] || [ -z "${CLUSTER_PORT:-}" ]; then
		CLUSTER_DIR=$dir
		pick_ports CLUSTER_PORT CLUSTER_HTTP CLUSTER_CONTROL CLUSTER_PG_PORT
	fi
	CLUSTER_LOG=$dir.log
	: >"$CLUSTER_LOG"
	"$MULTIGRES" dev --data "$dir" --listen "127.0.0.1:$CLUSTER_PORT" --http "127.0.0.1:$CLUSTER_HTTP" \
		--control "127.0.0.1:$CLUSTER_CONTROL" --pg-port "$CLUSTER_PG_PORT" "$@" >"$CLUSTER_LOG" 2>&1 &
	CLUSTER_PID=$!
	if ! wait_for "$START_DEADLINE" cluster_is_ready || ! grep -q '^ready ' "$CLUSTER_LOG"; then
		warn "the cluster wasn't ready within $START_DEADLINE s; the end of its log:"
		tail -n 20 "$CLUSTER_LOG" >&2
		[ -z "$CLUSTER_PID" ] || stop_cluster >/dev/null 2>&1
		return 1
	fi
	CLUSTER_URL=$(sed -n 's/^ready *//p' "$CLUSTER_LOG" | tail -n 1)
	CLUSTER_URL=${CLUSTER_URL%% *}
	CLUSTER_PG_URL=$(say "$CLUSTER_URL" | sed -E "s#:$CLUSTER_PORT/#:$CLUSTER_PG_PORT/#")
	export MULTIGRES_CONTROL="127.0.0.1:$CLUSTER_CONTROL"
}

mgctl() { "$MGCTL" --node "127.0.0.1:$CLUSTER_CONTROL" "$@"; }

stop_cluster() {
	local pid=$CLUSTER_PID
	[ -n "$pid" ] || return 0
	CLUSTER_PID=
	kill -TERM "$pid" 2>/dev/null
	if ! wait_child "$pid" "$STOP_DEADLINE"; then
		warn "the cluster (pid $pid) didn't stop within $STOP_DEADLINE s: killed; the end of its log:"
		tail -n 20 "$CLUSTER_LOG" >&2
		kill -KILL "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
		kill_postgres_of "$CLUSTER_DIR"
		return 1
	fi
	if [ "$REAPED" != 0 ]; then
		warn "the cluster stopped with status $REAPED; the end of its log:"
		tail -n 30 "$CLUSTER_LOG" >&2
		return 1
	fi
}

# Last resort for tests: ends a Postgres whose data directory lies under DIR, found by its own pid file.
kill_postgres_of() { # DIR
	local file pid
	find "$1" -maxdepth 6 -name postmaster.pid 2>/dev/null | while read -r file; do
		pid=$(head -n 1 "$file" 2>/dev/null)
		case $(readlink "/proc/$pid/cwd" 2>/dev/null) in "$(dirname "$file")") kill -QUIT "$pid" ;; esac
	done
}

start_direct_pg() { # DIR [OPTION...], each OPTION a `name=value` of postgresql.conf
	local dir=$1 opt
	shift
	[ -x "$PGBIN/initdb" ] || die "Postgres 15 isn't installed in $PGBIN (scripts/setup run)"
	mkdir -p "$dir"
	[ "$(id -u)" != 0 ] || chown postgres: "$dir"
	as_pg_user "$PGBIN/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 \
		--no-sync >"$dir.initdb.log" 2>&1 || { cat "$dir.initdb.log" >&2; return 1; }
	DIRECT_PORT=$(free_port)
	{
		say "listen_addresses = '127.0.0.1'"
		say "port = $DIRECT_PORT"
		say "unix_socket_directories = '$dir'"
		say "fsync = off"
		say "max_connections = 200"
		say "max_prepared_transactions = 20"
		say "wal_level = logical"
		say "log_min_messages = fatal"
		for opt in "$@"; do say "${opt%%=*} = '${opt#*=}'"; done
	} >>"$dir/data/postgresql.conf"
	DIRECT_DIR=$dir
	as_pg_user "$PGBIN/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 start >"$dir.start.log" 2>&1 ||
		{ cat "$dir.start.log" "$dir/log" >&2; return 1; }
	DIRECT_URL=postgresql://postgres@127.0.0.1:$DIRECT_PORT/postgres
}

stop_direct_pg() {
	[ -n "$DIRECT_DIR" ] || return 0
	as_pg_user "$PGBIN/pg_ctl" -D "$DIRECT_DIR/data" -m immediate -w -t 20 stop >/dev/null 2>&1
	DIRECT_DIR=
}

check() { # NAME COMMAND...
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		say "ok $name"
	else
		say "not ok $name"
		say "$out" | tail -n 25 | sed 's/^/    /'
		NOT_OK=$((NOT_OK + 1))
	fi
}

checks_done() { exit $((NOT_OK > 0)); }

lib_cleanup() {
	local status=$?
	trap - EXIT
	[ -z "$CLUSTER_PID" ] || stop_cluster || status=1
	stop_direct_pg
	if [ -n "${KEEP_TMP:-}" ]; then
		[ ${#LIB_TMP[@]} = 0 ] || warn "kept: ${LIB_TMP[*]}"
	else
		local dir
		for dir in ${LIB_TMP[@]+"${LIB_TMP[@]}"}; do rm -rf "$dir"; done
	fi
	exit $status
}
trap lib_cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
