// postgres.js (npm `postgres`), which pipelines by itself, against one URL. See psycopg_suite.py for the form of the output.
// COPY is left to node_pg_suite.mjs: this driver's own COPY streams hang now and then on a direct connection too.
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';

const require = createRequire(process.env.NODE_SUITE_MODULES + '/');
const postgres = require('postgres');

const URL_ = process.argv[2];
const SCHEMA = 'clients_node_postgres';
const md5 = (data) => createHash('md5').update(data).digest('hex');
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (...parts) => console.log(parts.map((p) => (typeof p === 'string' ? p : JSON.stringify(p))).join(' '));
const FIELDS = ['severity', 'code', 'message', 'detail', 'hint', 'position', 'internal_position', 'internal_query', 'where',
	'schema_name', 'table_name', 'column_name', 'data_type_name', 'constraint_name', 'file', 'line', 'routine'];

async function withSql(use, options = {}) {
	const sql = postgres(URL_, { max: 1, connect_timeout: 10, onnotice: (n) => say('notice:', n.severity, n.code, n.message),
		connection: { search_path: `${SCHEMA}, public`, application_name: 'suite app' }, ...options });
	try {
		return await use(sql);
	} finally {
		await sql.end({ timeout: 5 });
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

const sections = {
	async startup() {
		await withSql(async (sql) => say(await sql`SELECT current_setting('application_name') AS a, current_setting('search_path') AS s`));
		await attempt(postgres(URL_, { database: 'no_such_database', max: 1 })`SELECT 1`, true);
	},
	async values() {
		await withSql(async (sql) => {
			const [row] = await sql`SELECT ${5}::int4 AS i, ${'żółw'} AS t, ${true}::bool AS b, ${1.5}::float8 AS f, ${new Date(0)}::timestamptz AS d,
				${Buffer.from([0, 255])}::bytea AS y, ${sql.json({ a: [1] })}::jsonb AS j, ${[1, 2]}::int[] AS a, ${null}::text AS n`;
			say(row);
			say(await sql`SELECT * FROM (VALUES ${sql([[1, 'a'], [2, 'b']])}) v (n, t)`, await sql`SELECT 1 WHERE 'x' IN ${sql(['x', 'y'])}`);
			say((await sql`SELECT 1 AS a, 'b' AS b`).columns.map((c) => [c.name, c.type]));
			say(await sql.unsafe('SELECT 1 AS a; SELECT 2 AS b, 3 AS c'));
		});
	},
	async prepared_and_pipelined() {
		await withSql(async (sql) => {
			await sql`CREATE TABLE item (id int PRIMARY KEY, name text)`;
			await Promise.all(Array.from({ length: 300 }, (_, n) => sql`INSERT INTO item ${sql({ id: n, name: `n${n}` })}`));
			say(await sql`SELECT count(*)::int AS c, max(id) AS m FROM item`);
			const results = await Promise.allSettled(Array.from({ length: 100 }, (_, n) => sql`SELECT 10 / (${n}::int - 50) AS q`));
			say(results.filter((r) => r.status === 'fulfilled').length, results.filter((r) => r.status === 'rejected').map((r) => r.reason.code));
			await sql`ALTER TABLE item ADD extra int DEFAULT 7`;
			say(await sql`SELECT * FROM item WHERE id = ${3}`);
			say((await sql`SELECT * FROM item WHERE id = ${3}`.describe()).types, await sql`SELECT 1 AS simple`.simple());
		});
	},
	async transactions() {
		await withSql(async (sql) => {
			await sql`CREATE TABLE account (id int PRIMARY KEY, amount int)`;
			await attempt(sql.begin(async (t) => {
				await t`INSERT INTO account VALUES (1, 10)`;
				await attempt(t.savepoint((s) => s`INSERT INTO account VALUES (1, 20)`), true);
				await t`UPDATE account SET amount = 11`;
			}));
			say(await sql`SELECT * FROM account`);
			await attempt(sql.begin('isolation level serializable read only', (t) => t`DELETE FROM account`), true);
			await attempt(sql.begin((t) => [t`INSERT INTO account VALUES (2, 2)`, t`SELECT 1/0`, t`INSERT INTO account VALUES (3, 3)`]));
			say(await sql`SELECT * FROM account`);
			const reserved = await sql.reserve();
			await reserved`BEGIN`;
			await attempt(reserved`SELECT nope`);
			await attempt(reserved`SELECT 1`);
			say((await reserved`COMMIT`).command);
			reserved.release();
		});
	},
	async errors() {
		await withSql(async (sql) => {
			await sql`CREATE TABLE child (id int NOT NULL CONSTRAINT one UNIQUE, n int CONSTRAINT small CHECK (n < 10))`;
			await sql`INSERT INTO child VALUES (1)`;
			for (const query of ['INSERT INTO child VALUES (1)', 'INSERT INTO child VALUES (NULL)', 'INSERT INTO child VALUES (2, 50)', 'SELEC 1',
				'SELECT nic', 'SELECT 1/0', 'SELECT nope(1)', "DO $$ BEGIN RAISE 'own' USING HINT = 'h'; END $$"]) {
				await attempt(sql.unsafe(query), true);
				await attempt(sql.unsafe(query, [], { prepare: true }), true);
			}
			await sql`DROP TABLE IF EXISTS never_was`;
		});
	},
	async cancel() {
		await withSql(async (sql) => {
			for (let n = 0; n < 2; n++) {
				const query = sql`SELECT pg_sleep(20)`;
				const running = attempt(query, true);
				await sleep(300);
				query.cancel();
				await running;
				say(await sql`SELECT 'usable' AS u`);
			}
		});
	},
	async large_and_cursors() {
		await withSql(async (sql) => {
			const [{ big }] = await sql`SELECT string_agg(md5(i::text), '') AS big FROM generate_series(1, 32768) i`;
			say(big.length, md5(big), (await sql`SELECT ${big} AS b`)[0].b === big);
			const all = await sql`SELECT i, md5(i::text) AS m FROM generate_series(1, 100000) i`;
			say(all.length, md5(JSON.stringify(all)));
			let total = 0;
			for await (const part of sql`SELECT i FROM generate_series(1, 10000) i`.cursor(100)) total += part.reduce((s, r) => s + r.i, 0);
			say(total);
			for await (const part of sql`SELECT i FROM generate_series(1, 10000) i`.cursor(10)) { say(part.length); break; }
			let seen = 0;
			await sql`SELECT i FROM generate_series(1, 5000) i`.forEach(() => { seen++; });
			say(seen, await sql`SELECT 'usable' AS u`);
		});
	},
	async listen_notify() {
		await withSql(async (sql) => {
			const heard = [];
			const listening = await sql.listen('news', (payload) => heard.push(payload));
			await sql.notify('news', 'first');
			await sql.begin((t) => t`SELECT pg_notify('news', 'in a transaction')`);
			for (let n = 0; n < 100 && heard.length < 2; n++) await sleep(50);
			say(heard);
			await listening.unlisten();
		});
	},
	async pool() {
		await withSql(async (sql) => {
			const results = await Promise.all(Array.from({ length: 1000 }, (_, n) => sql`SELECT ${n}::int AS n, pg_sleep(0.0005)`));
			say(results.every(([row], n) => row.n === n), results.length);
		}, { max: 20 });
	},
};

const setup = postgres(URL_, { max: 1, onnotice: () => {} });
await setup.unsafe(`DROP SCHEMA IF EXISTS ${SCHEMA} CASCADE; CREATE SCHEMA ${SCHEMA}`);
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
