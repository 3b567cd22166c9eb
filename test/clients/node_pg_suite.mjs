// node-postgres (`pg`, with pg-cursor and pg-copy-streams) against one URL. See psycopg_suite.py for the form of the output.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { finished, pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';

const require = createRequire(process.env.NODE_SUITE_MODULES + '/');
const pg = require('pg');
const Cursor = require('pg-cursor');
const { from: copyFrom, to: copyTo } = require('pg-copy-streams');

const URL_ = process.argv[2];
const SCHEMA = 'clients_node_pg';
const md5 = (data) => createHash('md5').update(data).digest('hex');
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (...parts) => console.log(parts.map((p) => (typeof p === 'string' ? p : JSON.stringify(p))).join(' '));
const FIELDS = ['severity', 'code', 'message', 'detail', 'hint', 'position', 'internalPosition', 'internalQuery', 'where',
	'schema', 'table', 'column', 'dataType', 'constraint', 'file', 'line', 'routine'];

async function withClient(use, options = {}) {
	const client = new pg.Client({ connectionString: URL_, connectionTimeoutMillis: 10000, ...options });
	client.on('notice', (n) => say('notice:', n.severity, n.code, n.message));
	client.on('error', (e) => say('connection error:', e.message));
	await client.connect();
	try {
		await client.query(`SET search_path TO ${SCHEMA}, public`);
		return await use(client);
	} finally {
		await client.end();
	}
}

async function attempt(promise, everyField = false) {
	try {
		return await promise;
	} catch (error) {
		if (!everyField) say('error:', error.code ?? null, error.message);
		else {
			say('error:');
			for (const field of FIELDS) if (error[field] !== undefined) say(' ', field, '=', error[field]);
		}
		return null;
	}
}

const rows = async (client, text, values) => (await client.query({ text, values, rowMode: 'array' })).rows;

const sections = {
	async startup() {
		await withClient(async (c) => {
			say(await rows(c, "SELECT current_setting('application_name'), current_setting('work_mem')"));
			say(typeof c.processID, c.processID > 0);
		}, { application_name: 'suite app', options: '-c work_mem=1234kB' });
		await attempt(new pg.Client(URL_.replace(/\/[^/]*$/, '/no_such_database')).connect());
	},
	async types_text_and_binary() {
		await withClient(async (c) => {
			await c.query("SET TimeZone TO 'UTC'");
			for (const line of readFileSync(new URL('types.tsv', import.meta.url), 'utf8').trimEnd().split('\n')) {
				const [name, text] = line.split('\t');
				const literal = "'" + text.replaceAll("'", "''") + "'";
				for (const binary of [false, true]) {
					const result = await attempt(c.query({ text: `SELECT ${literal}::${name} AS v`, binary, rowMode: 'array', values: [],
						types: { getTypeParser: () => (v) => md5(v) } }));
					if (result) say(name, result.fields[0].dataTypeID, result.fields[0].dataTypeModifier, result.fields[0].format, result.rows[0]);
				}
				const parsed = await c.query({ text: `SELECT $1::${name} AS v`, values: [text], rowMode: 'array' });
				say(name, 'parsed', JSON.stringify(String(parsed.rows[0][0])));
			}
		});
	},
	async prepared() {
		await withClient(async (c) => {
			await c.query('CREATE TABLE item (id int PRIMARY KEY, name text, j jsonb, a int[])');
			for (let n = 0; n < 20; n++) await c.query({ name: 'ins', text: 'INSERT INTO item VALUES ($1, $2, $3, $4)', values: [n, `n${n}`, { n }, [n, null]] });
			say(await rows(c, 'SELECT count(*), max(name) FROM item WHERE id >= $1', [3]));
			say(await rows(c, 'SELECT * FROM item WHERE id = $1', [7]));
			const first = await withClient(async (o) => {
				const both = [];
				for (let n = 0; n < 3; n++) {
					both.push((await c.query({ name: 'same', text: "SELECT 'one'::text AS v" })).rows[0].v);
					both.push((await o.query({ name: 'same', text: "SELECT 'two'::text AS v" })).rows[0].v);
				}
				return both;
			});
			say(first);
			await attempt(c.query({ name: 'bad', text: 'SELECT $1::int + nope', values: [1] }), true);
			await attempt(c.query({ name: 'ins', values: [1, 'dup', {}, []], text: 'INSERT INTO item VALUES ($1, $2, $3, $4)' }), true);
			await attempt(c.query('SELECT $1::int', ['x']), true);
			for (let n = 0; n < 100; n++) await c.query({ name: `many_${n}`, text: `SELECT ${n} + $1::int`, values: [1] });
			say(await rows(c, 'SELECT count(*) FROM pg_prepared_statements WHERE name LIKE $1', ['many%']));
		});
	},
	async transactions() {
		await withClient(async (c) => {
			await c.query('CREATE TABLE account (id int PRIMARY KEY, amount int)');
			await c.query('BEGIN');
			await c.query('INSERT INTO account VALUES (1, 10)');
			await c.query('SAVEPOINT a');
			await attempt(c.query('INSERT INTO account VALUES (1, 20)'));
			await attempt(c.query('SELECT 1'));
			await c.query('ROLLBACK TO SAVEPOINT a');
			say((await c.query('COMMIT')).command, await rows(c, 'SELECT * FROM account'));
			await c.query('BEGIN');
			await attempt(c.query('SELECT 1/0'));
			say((await c.query('COMMIT')).command);
			const many = await c.query("SELECT 1 AS a; SELECT 'b' AS b, 3; UPDATE account SET amount = 5");
			say(many.map((r) => [r.command, r.rowCount, r.rows]));
			await attempt(c.query('INSERT INTO account VALUES (2, 2); SELECT 1/0'));
			say(await rows(c, 'SELECT * FROM account'));
		});
	},
	async errors() {
		await withClient(async (c) => {
			await c.query('CREATE TABLE child (id int NOT NULL CONSTRAINT one UNIQUE, n int CONSTRAINT small CHECK (n < 10))');
			await c.query('INSERT INTO child VALUES (1)');
			for (const query of ['INSERT INTO child VALUES (1)', 'INSERT INTO child VALUES (NULL)', 'INSERT INTO child VALUES (2, 50)',
				'SELEC 1', 'SELECT nic', 'SELECT 1/0', "SELECT 'x'::int", 'SELECT nope(1)',
				"DO $$ BEGIN EXECUTE 'SELECT nic'; END $$"]) {
				await attempt(c.query(query), true);
				await attempt(c.query({ text: query, values: [] , queryMode: 'extended' }), true);
			}
			say(await rows(c, 'SELECT 1'));
		});
	},
	async notices() {
		await withClient(async (c) => {
			await c.query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
			await c.query('DROP TABLE IF EXISTS never_was');
		});
	},
	async copy() {
		await withClient(async (c) => {
			await c.query('CREATE TABLE copied (id int, name text)');
			const lines = function* () { for (let n = 0; n < 20000; n++) yield `${n}\trow ${n}\n`; };
			const into = c.query(copyFrom('COPY copied FROM STDIN'));
			await pipeline(Readable.from(lines()), into);
			say('copied in', into.rowCount);
			const out = c.query(copyTo('COPY (SELECT * FROM copied ORDER BY id) TO STDOUT'));
			const hash = createHash('md5');
			out.on('data', (chunk) => hash.update(chunk));
			await finished(out);
			say('copied out', out.rowCount, hash.digest('hex'));
			await attempt(pipeline(Readable.from(['x\ty\n']), c.query(copyFrom('COPY copied FROM STDIN'))), true);
			say(await rows(c, 'SELECT count(*) FROM copied'));
		});
	},
	async cancel() {
		await withClient(async (c) => withClient(async (o) => {
			for (let n = 0; n < 2; n++) {
				const started = Date.now();
				const sleeping = attempt(c.query('SELECT pg_sleep(20)'), true);
				await sleep(300);
				const canceller = new pg.Client(URL_);
				canceller.connection.once('connect', () => canceller.connection.cancel(c.processID, c.secretKey));
				canceller.connection.on('error', () => {});
				canceller.connection.connect(c.port, c.host);
				await sleeping;
				say('in time', Date.now() - started < 10000, await rows(c, "SELECT 'usable'"), await rows(o, "SELECT 'untouched'"));
			}
			await c.query("SET statement_timeout TO '100ms'");
			await attempt(c.query('SELECT pg_sleep(20)'));
		}));
	},
	async large() {
		await withClient(async (c) => {
			const [[big]] = await rows(c, "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) i");
			say(big.length, md5(big), (await rows(c, 'SELECT $1::text', [big]))[0][0] === big);
			const blob = Buffer.alloc(8 << 20, 'a\u0001b');
			say((await rows(c, 'SELECT $1::bytea', [blob]))[0][0].equals(blob));
			const all = await rows(c, 'SELECT i, md5(i::text) FROM generate_series(1, 100000) i');
			say(all.length, md5(JSON.stringify(all)));
		});
	},
	async queued() {
		await withClient(async (c) => {
			const results = await Promise.allSettled(Array.from({ length: 200 }, (_, n) => rows(c, 'SELECT 100 / ($1::int - 150)', [n])));
			say(results.filter((r) => r.status === 'fulfilled').length, results.filter((r) => r.status === 'rejected').map((r) => r.reason.code));
		});
	},
	async listen_notify() {
		await withClient(async (hears) => withClient(async (speaks) => {
			const heard = [];
			hears.on('notification', (n) => heard.push([n.channel, n.payload, n.processId === speaks.processID]));
			await hears.query('LISTEN news');
			await speaks.query("NOTIFY news, 'first'");
			await speaks.query('BEGIN');
			await speaks.query("NOTIFY news, 'in a transaction'");
			await speaks.query('COMMIT');
			for (let n = 0; n < 100 && heard.length < 2; n++) await sleep(50);
			say(heard);
		}));
	},
	async settings_temp_tables_and_locks() {
		await withClient(async (one) => withClient(async (two) => {
			await one.query("SET work_mem TO '7MB'; SET app.tenant TO 'blue'; CREATE TEMP TABLE scratch AS SELECT 1 AS a");
			await two.query("SET app.tenant TO 'red'; CREATE TEMP TABLE scratch AS SELECT 2 AS a");
			for (let n = 0; n < 3; n++) say(await rows(one, "SELECT current_setting('work_mem'), current_setting('app.tenant'), a FROM scratch"),
				await rows(two, "SELECT current_setting('app.tenant'), a FROM scratch"));
			say(await rows(one, 'SELECT pg_try_advisory_lock(7310031)'), await rows(two, 'SELECT pg_try_advisory_lock(7310031)'));
			say(await rows(one, 'SELECT pg_advisory_unlock(7310031)'), await rows(two, 'SELECT pg_try_advisory_lock(7310031)'));
		}));
	},
	async cursors() {
		await withClient(async (c) => {
			const cursor = c.query(new Cursor('SELECT i FROM generate_series(1, $1::int) i', [1000], { rowMode: 'array' }));
			say((await cursor.read(3)).length, (await cursor.read(500)).length, (await cursor.read(1000)).length, (await cursor.read(10)).length);
			await cursor.close();
			const early = c.query(new Cursor('SELECT i FROM generate_series(1, 1000000) i'));
			say((await early.read(10)).length);
			await early.close();
			say(await rows(c, "SELECT 'usable'"));
		});
	},
	async pool() {
		const pool = new pg.Pool({ connectionString: URL_, max: 20 });
		const results = await Promise.all(Array.from({ length: 500 }, (_, n) => pool.query('SELECT $1::int AS n', [n])));
		say(results.every((r, n) => r.rows[0].n === n), results.length);
		await pool.end();
	},
};

const setup = new pg.Client(URL_);
await setup.connect();
await setup.query(`SET client_min_messages TO warning; DROP SCHEMA IF EXISTS ${SCHEMA} CASCADE; CREATE SCHEMA ${SCHEMA}`);
await setup.end();
for (const [name, run] of Object.entries(sections)) {
	say('==', name);
	try {
		await run();
	} catch (error) { // one broken section must not hide the others
		say('!! broken:', error.stack ?? String(error));
	}
}
say('== end');
process.exit(0);
