\set QUIET on
\set VERBOSITY verbose
\pset pager off
SET client_min_messages TO warning;
DROP SCHEMA IF EXISTS clients_psql CASCADE;
CREATE SCHEMA clients_psql;
SET search_path TO clients_psql;
RESET client_min_messages;
\set QUIET off
\cd :tmp

\echo == queries
SELECT 1 AS one, 'żółw' AS text, NULL AS nothing, ARRAY[1,2] AS list;
SELECT 1 AS a, 'b' AS b \gx
SELECT 1 \; SELECT 2 AS two \; SELECT 'three' ;
SELECT i, i * i AS square FROM generate_series(1, 3) i \g (format=unaligned tuples_only=on)
SELECT 'a' AS row, 'b' AS col, 1 AS v UNION ALL SELECT 'c', 'd', 2 \crosstabview
SELECT format('SELECT %s AS made', i) FROM generate_series(1, 2) i \gexec
SELECT 5 AS kept, 'x' AS word \gset my_
SELECT :my_kept + 1 AS sum, :'my_word' AS word;
SELECT 1 AS a, 2.5 AS b, now() AS c, 'x'::varchar(5) AS d \gdesc
SELECT 1 AS by_hand;

\echo == describe
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE parent (id serial PRIMARY KEY, name text NOT NULL DEFAULT 'x', m mood, p positive);
CREATE TABLE child (id bigint GENERATED ALWAYS AS IDENTITY, parent int REFERENCES parent ON DELETE CASCADE, UNIQUE (parent)) ;
CREATE INDEX child_partial ON child (parent) WHERE parent > 5;
CREATE VIEW happy AS SELECT * FROM parent WHERE m = 'happy';
CREATE FUNCTION add(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a + b';
COMMENT ON TABLE parent IS 'a commented table';
\d
\d parent
\d child
\d happy
\dt
\di
\dv
\ds
\dT
\dD
\df
\sf add
\d+ parent
\dn clients_psql
\d nowhere

\echo == errors
SELECT * FROM nowhere;
INSERT INTO parent (id) VALUES (50), (50);
\set VERBOSITY default
SELECT 1/0;
SELECT 'żółw', nic FROM parent;
INSERT INTO parent (id, p) VALUES (1, -1);
INSERT INTO child (parent) VALUES (99);
\set VERBOSITY sqlstate
INSERT INTO parent (name) VALUES (NULL);
\set VERBOSITY default
\errverbose
SELECT 1;
\echo :ERROR :SQLSTATE :ROW_COUNT
SELEC 1;
\echo :ERROR :SQLSTATE :LAST_ERROR_MESSAGE

\echo == transactions
BEGIN;
INSERT INTO parent (name) VALUES ('one');
SAVEPOINT a;
SELECT 1/0;
SELECT 1;
ROLLBACK TO a;
INSERT INTO parent (name) VALUES ('two');
COMMIT;
SELECT id, name FROM parent ORDER BY id;
BEGIN;
SELECT 1/0;
COMMIT;
COMMIT;
BEGIN;
BEGIN;
END AND CHAIN;
ROLLBACK;
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT 1/0;
SELECT 'still fine' AS state;
COMMIT;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
INSERT INTO parent (name) VALUES ('three');
ROLLBACK;
\set AUTOCOMMIT on
SELECT count(*) FROM parent;

\echo == notices
DO $$ BEGIN RAISE NOTICE 'a notice' USING DETAIL = 'detail', HINT = 'hint'; RAISE WARNING 'a warning'; END $$;
DROP TABLE IF EXISTS never_was;
CREATE TABLE IF NOT EXISTS parent ();
SELECT 1 \; DO $$ BEGIN RAISE NOTICE 'between'; END $$ \; SELECT 2;

\echo == copy
CREATE TABLE copied (id int, name text);
COPY copied FROM STDIN;
1	one
2	\N
3	tab\tbed
\.
\copy (SELECT * FROM copied ORDER BY id) TO 'out.csv' CSV HEADER
\! cat out.csv
TRUNCATE copied;
\copy copied FROM 'out.csv' CSV HEADER
COPY copied TO STDOUT;
COPY copied FROM STDIN;
wrong	line
\.
COPY copied FROM STDIN \; SELECT count(*) FROM copied;
9	nine
\.
COPY (SELECT 1) TO STDOUT \; COPY (SELECT 2) TO STDOUT;
\copy copied TO PROGRAM 'wc -l' CSV

\echo == sessions
SET work_mem TO '7MB';
SHOW work_mem;
PREPARE p (int) AS SELECT $1 * 2 AS doubled;
EXECUTE p(21);
DEALLOCATE p;
CREATE TEMP TABLE scratch AS SELECT 1 AS a;
SELECT * FROM scratch;
LISTEN news;
NOTIFY news, 'to myself';
DECLARE c CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 5) i;
FETCH 2 FROM c;
FETCH ALL FROM c;
\set FETCH_COUNT 2
SELECT i FROM generate_series(1, 5) i;
\unset FETCH_COUNT
\encoding LATIN1
SELECT chr(8364);
\encoding UTF8
\c
SHOW work_mem;
SELECT to_regclass('scratch') AS gone;
\lo_import out.csv
\lo_unlink :LASTOID
\echo == end
