#!/bin/bash
# `multigres dev` as a program: it starts, refuses what it must, stops cleanly, survives kill -9, and is read like one.
. "$(dirname "$0")/../../scripts/lib.sh"
new_tmp dev
data=$NEW_TMP/data

sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
select_one() { [ "$(sql "$CLUSTER_URL" -c 'SELECT 1')" = 1 ]; }
postgres_pids() { # those of our data directory
	local file
	for file in $(find "$data" -maxdepth 6 -name postmaster.pid 2>/dev/null); do head -n 1 "$file"; done
}
no_postgres_left() {
	local pid
	for pid in $(postgres_pids); do ! kill -0 "$pid" 2>/dev/null || return 1; done
}
port_answers() { ! port_is_free 127.0.0.1 "$1"; }

starts_and_says_ready() { start_cluster "$data" && [ -n "$CLUSTER_URL" ]; }
# Not through `check`, whose subshell would lose the cluster's variables.
if starts_and_says_ready; then say "ok starts_and_says_ready"; else say "not ok starts_and_says_ready"; exit 1; fi

says_ready_once() { [ "$(grep -c '^ready ' "$CLUSTER_LOG")" = 1 ] && [[ $CLUSTER_URL == postgresql://*:$CLUSTER_PORT/* ]]; }
check says_ready_once says_ready_once
check serves_a_query select_one

a_second_start_names_the_pid() {
	local out status
	out=$(timeout 20 "$MULTIGRES" dev --data "$data" --listen "127.0.0.1:$(free_port)" --http "127.0.0.1:$(free_port)" \
		--control "127.0.0.1:$(free_port)" --pg-port "$(free_port)" 2>&1)
	status=$?
	say "$out"
	[ $status != 0 ] && [ $status != 124 ] && grep -qE "(^|[^0-9])$(pgrep -d '|' -f -- "--data $data" || say "$CLUSTER_PID")([^0-9]|$)" <<<"$out" && select_one
}
check a_second_start_names_the_pid a_second_start_names_the_pid

http_answers() {
	curl -fsS -m 5 "http://127.0.0.1:$CLUSTER_HTTP/healthz" && curl -fsS -m 5 "http://127.0.0.1:$CLUSTER_HTTP/readyz" &&
		curl -fsS -m 5 "http://127.0.0.1:$CLUSTER_HTTP/metrics" | grep -q '^# HELP'
}
check http_answers http_answers
unknown_pages_are_404() { [ "$(curl -s -m 5 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$CLUSTER_HTTP/nowhere")" = 404 ]; }
check unknown_pages_are_404 unknown_pages_are_404

mgctl_answers() { mgctl status && mgctl actors && mgctl --json status | /usr/bin/python3 -m json.tool >/dev/null; }
check mgctl_answers mgctl_answers
mgctl_exits_3_when_no_node_answers() {
	"$MGCTL" --node "127.0.0.1:$(free_port)" status
	[ $? = 3 ]
}
check mgctl_exits_3_when_no_node_answers mgctl_exits_3_when_no_node_answers
mgctl_exits_2_on_bad_usage() { mgctl frobnicate; [ $? = 2 ]; }
check mgctl_exits_2_on_bad_usage mgctl_exits_2_on_bad_usage

sql "$CLUSTER_URL" -c 'CREATE TABLE kept AS SELECT generate_series(1, 1000) AS i' || say "not ok a_table_can_be_made"

# The children of the process we started, deepest last: the watchdog's child is the node.
children() { local pid; for pid in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do say "$pid"; done; }
serves_again() { wait_for 30 select_one; }

node_killed_is_restarted() {
	local child
	child=$(children "$CLUSTER_PID" | head -n 1)
	[ -n "$child" ] || { say "no child process: is there a watchdog?"; return 1; }
	kill -KILL "$child"
	serves_again && [ "$(sql "$CLUSTER_URL" -c 'SELECT count(*) FROM kept')" = 1000 ]
}
check node_killed_is_restarted node_killed_is_restarted

postgres_killed_is_restarted() {
	local pid
	pid=$(postgres_pids | head -n 1)
	[ -n "$pid" ] || { say "no postmaster.pid below $data"; return 1; }
	kill -KILL "$pid"
	serves_again && [ "$(sql "$CLUSTER_URL" -c 'SELECT count(*) FROM kept')" = 1000 ]
}
check postgres_killed_is_restarted postgres_killed_is_restarted

if stop_cluster; then say "ok stops_cleanly_on_sigterm"; else say "not ok stops_cleanly_on_sigterm"; NOT_OK=$((NOT_OK + 1)); fi
check leaves_no_postgres no_postgres_left
if start_cluster "$data"; then say "ok starts_again"; else say "not ok starts_again"; exit 1; fi
data_is_kept() { [ "$(sql "$CLUSTER_URL" -c 'SELECT count(*) FROM kept')" = 1000 ]; }
check data_is_kept data_is_kept

# kill -9 of everything that is ours, Postgres left running; then a start on the same directory.
whole_tree() { local pid; for pid in $(children "$1"); do whole_tree "$pid"; done; say "$1"; }
tree=$(whole_tree "$CLUSTER_PID")
postgres=$(postgres_pids | head -n 1)
for pid in $(children "$CLUSTER_PID") "$CLUSTER_PID"; do
	[ "$pid" = "$postgres" ] || kill -KILL "$CLUSTER_PID" "$pid" 2>/dev/null
done
wait "$CLUSTER_PID" 2>/dev/null
CLUSTER_PID=
if start_cluster "$data"; then say "ok recovers_from_kill_9_with_postgres_left"; else say "not ok recovers_from_kill_9_with_postgres_left"; exit 1; fi
check data_is_kept_again data_is_kept

# And with Postgres dead too.
tree=$(whole_tree "$CLUSTER_PID")
# shellcheck disable=SC2086
kill -KILL $tree $(postgres_pids) 2>/dev/null
wait "$CLUSTER_PID" 2>/dev/null
CLUSTER_PID=
if start_cluster "$data"; then say "ok recovers_from_kill_9_with_postgres_dead"; else say "not ok recovers_from_kill_9_with_postgres_dead"; exit 1; fi
check data_is_kept_once_more data_is_kept
kill -INT "$CLUSTER_PID"
if wait_child "$CLUSTER_PID" "$STOP_DEADLINE" && [ "$REAPED" = 0 ]; then
	CLUSTER_PID=
	say "ok stops_cleanly_on_sigint"
else
	say "not ok stops_cleanly_on_sigint"
	NOT_OK=$((NOT_OK + 1))
fi
check leaves_no_postgres_either no_postgres_left
checks_done
