#!/bin/bash
# psql against one URL: prints what it printed. See psycopg_suite.py for the form of the output.
set -u
cd "$(dirname "$0")" || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
export PSQL_HISTORY=/dev/null PGTZ=UTC
# What differs from run to run and means nothing: backend pids of notifications, OIDs of large objects, \c's address.
psql -X -v tmp="$tmp" -f psql_suite.sql "$1" 2>&1 |
	sed -E -e 's/(server process with PID )[0-9]+/\1N/' -e 's/^lo_(import|unlink) [0-9]+/lo_\1 N/' \
		-e 's/^(You are now connected to database "[^"]*" as user "[^"]*").*/\1/' -e '/^SSL connection/d'
