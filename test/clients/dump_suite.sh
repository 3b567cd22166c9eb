#!/bin/bash
# pg_dump and pg_restore against one URL: a database with every kind of object is made, dumped in each format, restored
# into a new database and dumped again; all dumps must be one text. See psycopg_suite.py for the form of the output.
set -u
cd "$(dirname "$0")" || exit 1
. ../../scripts/lib.sh
new_tmp dump
url=$1

# Newer minor versions put a random word into every dump; with a fixed one the dumps stay comparable.
key=()
! pg_dump --help | grep -q -- --restrict-key || key=(--restrict-key=clients)

source_db=$(with_db "$url" clients_dump) copy_db=$(with_db "$url" clients_dump_copy)

run() { # LABEL COMMAND...
	local label=$1 out
	shift
	out=$(timeout 120 "$@" 2>&1) || echo "!! broken: $label"
	[ -z "$out" ] || sed "s#^#$label: #; s#$NEW_TMP/##g" <<<"$out"
}

# A database with a subscription can't be dropped.
drop_database() { # NAME
	psql -Xq "$(with_db "$url" "$1")" -c 'SET client_min_messages TO error' -c 'DROP SUBSCRIPTION IF EXISTS never' >/dev/null 2>&1
	run "drop $1" psql -Xq "$url" -c 'SET client_min_messages TO error' -c "DROP DATABASE IF EXISTS $1 WITH (FORCE)"
}

new_database() { # NAME
	drop_database "$1"
	run "create $1" psql -Xq "$url" -c "CREATE DATABASE $1 TEMPLATE template0 ENCODING 'UTF8'"
}

same() { # LABEL FILE FILE
	if cmp -s "$2" "$3"; then
		echo "$1: equal"
	else
		echo "!! broken: $1: differs"
		diff "$2" "$3" | head -n 40
	fi
}

echo '== make'
new_database clients_dump
run load psql -Xq -v ON_ERROR_STOP=1 -o /dev/null -f dump_objects.sql "$source_db"
echo '== dump'
run plain pg_dump "${key[@]}" -f "$NEW_TMP/plain.sql" "$source_db"
md5sum <"$NEW_TMP/plain.sql"
wc -l <"$NEW_TMP/plain.sql"
run inserts pg_dump "${key[@]}" --inserts --rows-per-insert 10 --column-inserts -f "$NEW_TMP/inserts.sql" "$source_db"
md5sum <"$NEW_TMP/inserts.sql"
run schema pg_dump "${key[@]}" --schema-only --create --clean --if-exists -f "$NEW_TMP/schema.sql" "$source_db"
md5sum <"$NEW_TMP/schema.sql"
run custom pg_dump -Fc -f "$NEW_TMP/custom.dump" "$source_db"
run custom-to-text pg_restore "${key[@]}" -f "$NEW_TMP/custom.sql" "$NEW_TMP/custom.dump"
run directory pg_dump -Fd -j 3 -f "$NEW_TMP/directory" "$source_db"
run directory-to-text pg_restore "${key[@]}" -f "$NEW_TMP/directory.sql" "$NEW_TMP/directory"
same 'custom and directory' "$NEW_TMP/custom.sql" "$NEW_TMP/directory.sql"
cat "$NEW_TMP/plain.sql"
for way in 'custom -j 2' 'directory -j 3' 'custom --single-transaction'; do
	echo "== restore $way"
	new_database clients_dump_copy
	format=${way%% *}
	[ "$format" = directory ] || format=custom.dump
	# shellcheck disable=SC2086
	run restore pg_restore --exit-on-error ${way#* } -d "$copy_db" "$NEW_TMP/$format"
	run dump-again pg_dump "${key[@]}" -f "$NEW_TMP/again.sql" "$copy_db"
	same 'dumped again' "$NEW_TMP/plain.sql" "$NEW_TMP/again.sql"
done
echo '== restore plain by psql'
new_database clients_dump_copy
run restore psql -Xq -v ON_ERROR_STOP=1 -o /dev/null -f "$NEW_TMP/inserts.sql" "$copy_db"
run dump-again pg_dump "${key[@]}" -f "$NEW_TMP/again.sql" "$copy_db"
same 'dumped again' "$NEW_TMP/plain.sql" "$NEW_TMP/again.sql"
echo '== dumpall'
pg_dumpall --globals-only "${key[@]}" -d "$url" 2>&1 | grep clients_dump
drop_database clients_dump_copy
drop_database clients_dump
echo '== end'
