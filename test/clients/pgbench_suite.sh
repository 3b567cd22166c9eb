#!/bin/bash
# pgbench against one URL, every -M mode, with and without -C: no transaction may fail and the books must balance.
# Prints counts, never speeds. See psycopg_suite.py for the form of the output.
set -u
url=$1
count=${PGBENCH_TRANSACTIONS:-50}

summary() { # MODE ARGS...: runs pgbench, prints what must not vary, or all of it when it failed
	local out
	if out=$(timeout 120 pgbench "$@" "$url" 2>&1); then
		grep -E '^(query mode|number of transactions actually processed|number of failed transactions)|aborted|ERROR' <<<"$out"
	else
		echo "!! broken: pgbench $*"
		tail -n 15 <<<"$out"
	fi
}

echo '== initialise'
timeout 120 pgbench -i -q -s 1 --foreign-keys "$url" >/dev/null 2>&1 || echo '!! broken: pgbench -i'
psql -XAt "$url" -c 'SELECT count(*), sum(abalance) FROM pgbench_accounts'
for mode in simple extended prepared; do
	echo "== $mode"
	summary -n -M "$mode" -c 8 -j 2 -t "$count"
	summary -n -M "$mode" -S -c 8 -j 2 -t $((count * 4))
	summary -n -M "$mode" -C -c 4 -t $((count / 4))
done
echo '== pipelined'
script=$(mktemp)
trap 'rm -f "$script"' EXIT
cat >"$script" <<'SQL'
\set aid random(1, 100000)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
UPDATE pgbench_branches SET bbalance = bbalance + 1 WHERE bid = 1;
UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, 1, now());
END;
\endpipeline
SQL
summary -n -M extended -f "$script" -c 4 -t "$count"
summary -n -M prepared -f "$script" -c 4 -t "$count"
echo '== books'
psql -XAt "$url" <<'SQL'
SELECT count(*) FROM pgbench_history;
SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history),
       (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history),
       (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history);
SQL
echo '== end'
