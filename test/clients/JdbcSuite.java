// JDBC (pgjdbc) against one URL, run as a single source file. See psycopg_suite.py for the form of the output.
import java.io.*;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.MessageDigest;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class JdbcSuite {
	static final String SCHEMA = "clients_jdbc";
	static String url, user;

	interface Section { void run() throws Exception; }

	static void say(Object... parts) {
		StringJoiner line = new StringJoiner(" ");
		for (Object part : parts) line.add(String.valueOf(part));
		System.out.println(line);
	}

	static String md5(byte[] data) throws Exception {
		return String.format("%032x", new java.math.BigInteger(1, MessageDigest.getInstance("MD5").digest(data)));
	}

	static Connection connect(String... options) throws SQLException {
		Properties properties = new Properties();
		properties.setProperty("user", user);
		properties.setProperty("connectTimeout", "10");
		properties.setProperty("currentSchema", SCHEMA + ",public");
		for (int n = 0; n < options.length; n += 2) properties.setProperty(options[n], options[n + 1]);
		return DriverManager.getConnection(url, properties);
	}

	static void warnings(SQLWarning warning) {
		for (; warning != null; warning = warning.getNextWarning()) say("notice:", warning.getSQLState(), warning.getMessage());
	}

	static void attempt(Section what) throws Exception { attempt(what, false); }

	static void attempt(Section what, boolean everyField) throws Exception {
		try {
			what.run();
		} catch (SQLException error) {
			ServerErrorMessage m = error instanceof PSQLException ? ((PSQLException) error).getServerErrorMessage() : null;
			if (!everyField || m == null) { say("error:", error.getSQLState(), error.getMessage().replace("\n", " | ")); return; }
			say("error:", m.getSeverity(), m.getSQLState(), m.getMessage(), m.getDetail(), m.getHint(), m.getPosition(), m.getInternalPosition(),
				m.getInternalQuery(), m.getWhere(), m.getSchema(), m.getTable(), m.getColumn(), m.getDatatype(), m.getConstraint(), m.getFile(),
				m.getLine(), m.getRoutine());
		}
	}

	static void exec(Connection c, String... queries) throws SQLException {
		try (Statement s = c.createStatement()) { for (String query : queries) s.execute(query); }
	}

	static List<List<Object>> rows(Connection c, String query, Object... parameters) throws SQLException {
		try (PreparedStatement s = c.prepareStatement(query)) {
			for (int n = 0; n < parameters.length; n++) s.setObject(n + 1, parameters[n]);
			List<List<Object>> all = new ArrayList<>();
			try (ResultSet r = s.executeQuery()) {
				while (r.next()) {
					List<Object> row = new ArrayList<>();
					for (int n = 1; n <= r.getMetaData().getColumnCount(); n++) row.add(r.getObject(n));
					all.add(row);
				}
			}
			return all;
		}
	}

	static void startup() throws Exception {
		try (Connection c = connect("ApplicationName", "suite app", "options", "-c work_mem=1234kB")) {
			say(rows(c, "SELECT current_setting('application_name'), current_setting('work_mem'), current_schema()"));
			DatabaseMetaData m = c.getMetaData();
			say(m.getDatabaseProductName(), m.getDatabaseProductVersion(), m.getDatabaseMajorVersion(), c.isValid(5));
			say(new TreeMap<>(c.unwrap(PGConnection.class).getParameterStatuses()));
			c.setClientInfo("ApplicationName", "another");
			say(rows(c, "SHOW application_name"));
		}
		attempt(() -> DriverManager.getConnection(url.replaceAll("/[^/]*$", "/no_such_database"), user, ""));
	}

	static void typesTextAndBinary() throws Exception {
		try (Connection text = connect("binaryTransfer", "false"); Connection binary = connect("prepareThreshold", "-1")) {
			for (String line : Files.readAllLines(Path.of(System.getProperty("suite.types")))) {
				String[] parts = line.split("\t", 2);
				String query = "SELECT '" + parts[1].replace("'", "''") + "'::" + parts[0];
				for (Connection c : List.of(text, binary)) {
					try (PreparedStatement s = c.prepareStatement(query); ResultSet r = s.executeQuery()) {
						r.next();
						Object value;
						try { value = r.getObject(1); } catch (SQLException e) { value = e.getSQLState(); }
						if (value instanceof byte[]) value = md5((byte[]) value);
						if (value instanceof SQLXML) value = ((SQLXML) value).getString();
						say(parts[0], c == text ? "text" : "binary", r.getMetaData().getColumnTypeName(1), value, r.getString(1));
					}
				}
			}
			say(rows(binary, "SELECT ?::int4 + 1, ?::text, ?::bool, ?::float8, ?::numeric, ?::date", 5, "żółw", true, 1.5,
				new java.math.BigDecimal("1.10"), java.sql.Date.valueOf("2024-02-29")));
		}
	}

	static void prepared() throws Exception {
		try (Connection c = connect("prepareThreshold", "2", "preparedStatementCacheQueries", "10"); Connection o = connect()) {
			exec(c, "CREATE TABLE item (id int PRIMARY KEY, name text)");
			try (PreparedStatement s = c.prepareStatement("INSERT INTO item VALUES (?, ?)")) {
				for (int n = 0; n < 1000; n++) { s.setInt(1, n); s.setString(2, "n" + n); s.addBatch(); }
				say(Arrays.stream(s.executeBatch()).sum());
				for (int n : new int[] {2000, 1, 2001}) { s.setInt(1, n); s.setString(2, "x"); s.addBatch(); }
				attempt(() -> { try { s.executeBatch(); } catch (BatchUpdateException e) { say(Arrays.toString(e.getUpdateCounts())); throw e; } });
			}
			for (int n = 0; n < 60; n++) rows(c, "SELECT " + n % 30 + " + ?", 1);
			for (int n = 0; n < 6; n++) say(rows(c, "SELECT count(*) FROM item WHERE id > ?", n), rows(o, "SELECT ?::text", "other"));
			exec(c, "ALTER TABLE item ADD extra int DEFAULT 7");
			try (PreparedStatement s = c.prepareStatement("SELECT * FROM item WHERE id = 1")) {
				for (int n = 0; n < 4; n++) try (ResultSet r = s.executeQuery()) { say(r.getMetaData().getColumnCount()); }
				exec(c, "ALTER TABLE item ADD more int");
				attempt(() -> { try (ResultSet r = s.executeQuery()) { say(r.getMetaData().getColumnCount()); } });
			}
			try (PreparedStatement s = c.prepareStatement("INSERT INTO item VALUES (?, ?) RETURNING id", Statement.RETURN_GENERATED_KEYS)) {
				say(s.getParameterMetaData().getParameterTypeName(2), s.getMetaData().getColumnTypeName(1));
			}
			exec(c, "CREATE FUNCTION add(a int, b int, OUT total int) LANGUAGE sql AS 'SELECT a + b'");
			try (CallableStatement s = c.prepareCall("{call add(?, ?, ?)}")) {
				s.setInt(1, 4); s.setInt(2, 5); s.registerOutParameter(3, Types.INTEGER); s.execute(); say("called", s.getInt(3));
			}
		}
	}

	static void transactions() throws Exception {
		try (Connection c = connect()) {
			exec(c, "CREATE TABLE account (id int PRIMARY KEY, amount int)");
			c.setAutoCommit(false);
			exec(c, "INSERT INTO account VALUES (1, 10)");
			Savepoint a = c.setSavepoint("a b");
			attempt(() -> exec(c, "INSERT INTO account VALUES (1, 20)"));
			attempt(() -> exec(c, "SELECT 1"));
			c.rollback(a);
			exec(c, "INSERT INTO account VALUES (2, 20)");
			c.commit();
			exec(c, "DELETE FROM account");
			c.rollback();
			attempt(() -> exec(c, "SELECT 1/0"));
			attempt(c::commit);
			for (int level : new int[] {Connection.TRANSACTION_READ_COMMITTED, Connection.TRANSACTION_REPEATABLE_READ, Connection.TRANSACTION_SERIALIZABLE}) {
				c.rollback();
				c.setTransactionIsolation(level);
				say(rows(c, "SHOW transaction_isolation"), c.getTransactionIsolation() == level);
			}
			c.rollback();
			c.setReadOnly(true);
			attempt(() -> exec(c, "DELETE FROM account"));
			c.rollback();
			c.setReadOnly(false);
			c.setAutoCommit(true);
			say(rows(c, "SELECT * FROM account ORDER BY id"));
			try (Statement s = c.createStatement()) {
				boolean more = s.execute("SELECT 1; UPDATE account SET amount = 5; SELECT 2, 3");
				while (more || s.getUpdateCount() != -1) {
					say(more ? "rows" : "count", more ? s.getResultSet().getMetaData().getColumnCount() : s.getUpdateCount());
					more = s.getMoreResults();
				}
			}
			attempt(() -> exec(c, "INSERT INTO account VALUES (3, 3); SELECT 1/0"));
			say(rows(c, "SELECT * FROM account ORDER BY id"));
		}
		try (Connection c = connect("autosave", "always")) {
			c.setAutoCommit(false);
			attempt(() -> exec(c, "SELECT 1/0"));
			say("autosave", rows(c, "SELECT 1"));
		}
	}

	static void errors() throws Exception {
		for (String mode : List.of("extended", "simple", "extendedForPrepared"))
			try (Connection c = connect("preferQueryMode", mode)) {
				exec(c, "DROP TABLE IF EXISTS child");
				exec(c, "CREATE TABLE child (id int NOT NULL CONSTRAINT one UNIQUE, n int CONSTRAINT small CHECK (n < 10))", "INSERT INTO child VALUES (1)");
				for (String query : List.of("INSERT INTO child VALUES (1)", "INSERT INTO child VALUES (NULL)", "INSERT INTO child VALUES (2, 50)", "SELEC 1",
					"SELECT nic", "SELECT 1/0", "SELECT 'x'::int", "SELECT nope(1)", "DO $$ BEGIN RAISE 'own' USING HINT = 'h'; END $$"))
					attempt(() -> exec(c, query), true);
				say(rows(c, "SELECT 'usable'"));
			}
	}

	static void notices() throws Exception {
		try (Connection c = connect(); Statement s = c.createStatement()) {
			s.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
			warnings(s.getWarnings());
			s.execute("DROP TABLE IF EXISTS never_was");
			warnings(s.getWarnings());
		}
	}

	static void copy() throws Exception {
		try (Connection c = connect()) {
			exec(c, "CREATE TABLE copied (id int, name text)");
			CopyManager manager = c.unwrap(PGConnection.class).getCopyAPI();
			StringBuilder lines = new StringBuilder();
			for (int n = 0; n < 20000; n++) lines.append(n).append("\trow ").append(n).append('\n');
			say(manager.copyIn("COPY copied FROM STDIN", new StringReader(lines.toString())));
			ByteArrayOutputStream out = new ByteArrayOutputStream();
			say(manager.copyOut("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT (FORMAT binary)", out), out.size(), md5(out.toByteArray()));
			attempt(() -> manager.copyIn("COPY copied FROM STDIN", new StringReader("x\ty\n")), true);
			var in = manager.copyIn("COPY copied FROM STDIN");
			in.writeToCopy("1\tone\n".getBytes(), 0, 6);
			in.cancelCopy();
			say(rows(c, "SELECT count(*) FROM copied"));
		}
	}

	static void cancel() throws Exception {
		try (Connection c = connect(); Statement s = c.createStatement()) {
			for (int n = 0; n < 2; n++) {
				Thread canceller = new Thread(() -> { try { Thread.sleep(300); s.cancel(); } catch (Exception e) { say("cancel:", e); } });
				long started = System.nanoTime();
				canceller.start();
				attempt(() -> s.execute("SELECT pg_sleep(20)"), true);
				canceller.join();
				say("in time", System.nanoTime() - started < 10_000_000_000L, rows(c, "SELECT 'usable'"));
			}
			s.setQueryTimeout(1);
			attempt(() -> s.execute("SELECT pg_sleep(20)"));
		}
	}

	static void large() throws Exception {
		try (Connection c = connect()) {
			String big = (String) rows(c, "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) i").get(0).get(0);
			say(big.length(), md5(big.getBytes(StandardCharsets.UTF_8)), rows(c, "SELECT ?", big).get(0).get(0).equals(big));
			byte[] blob = new byte[8 << 20];
			new Random(1).nextBytes(blob);
			say(Arrays.equals(blob, (byte[]) rows(c, "SELECT ?::bytea", (Object) blob).get(0).get(0)));
			var all = rows(c, "SELECT i, md5(i::text) FROM generate_series(1, 100000) i");
			say(all.size(), md5(all.toString().getBytes()));
		}
	}

	static void listenNotify() throws Exception {
		try (Connection hears = connect(); Connection speaks = connect()) {
			exec(hears, "LISTEN news");
			exec(speaks, "NOTIFY news, 'first'");
			int sender = speaks.unwrap(PGConnection.class).getBackendPID();
			PGConnection pg = hears.unwrap(PGConnection.class);
			for (int n = 0; n < 2; n++) {
				if (n == 1) { speaks.setAutoCommit(false); exec(speaks, "SELECT pg_notify('news', 'in a transaction')"); speaks.commit(); }
				var heard = pg.getNotifications(5000);
				for (var note : heard) say(note.getName(), note.getParameter(), note.getPID() == sender);
			}
		}
	}

	static void sessionState() throws Exception {
		try (Connection one = connect(); Connection two = connect()) {
			exec(one, "SET work_mem TO '7MB'", "SET app.tenant TO 'blue'", "CREATE TEMP TABLE scratch AS SELECT 1 AS a");
			exec(two, "SET app.tenant TO 'red'", "CREATE TEMP TABLE scratch AS SELECT 2 AS a");
			for (int n = 0; n < 7; n++)
				say(rows(one, "SELECT current_setting('work_mem'), current_setting('app.tenant'), a FROM scratch"),
					rows(two, "SELECT current_setting('app.tenant'), a FROM scratch"));
			say(rows(one, "SELECT pg_try_advisory_lock(7310051)"), rows(two, "SELECT pg_try_advisory_lock(7310051)"));
			say(rows(one, "SELECT pg_advisory_unlock(7310051)"), rows(two, "SELECT pg_try_advisory_lock(7310051)"));
			one.setSchema("pg_catalog");
			say(one.getSchema(), two.getSchema());
		}
	}

	static void cursors() throws Exception {
		try (Connection c = connect(); Statement s = c.createStatement()) {
			c.setAutoCommit(false);
			s.setFetchSize(100);
			long sum = 0;
			try (ResultSet r = s.executeQuery("SELECT i FROM generate_series(1, 5000) i")) {
				int seen = 0;
				while (r.next()) { sum += r.getInt(1); if (++seen == 250) exec(c, "SELECT 'between'"); }
			}
			say(sum);
			try (ResultSet r = s.executeQuery("SELECT i FROM generate_series(1, 100000) i")) { r.next(); say("left early", r.getInt(1)); }
			c.commit();
			try (Statement scroll = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
				exec(c, "CREATE TABLE edited AS SELECT 1 AS id, 'a' AS v", "ALTER TABLE edited ADD PRIMARY KEY (id)");
				try (ResultSet r = scroll.executeQuery("SELECT id, v FROM edited")) { r.last(); r.updateString(2, "b"); r.updateRow(); }
				say(rows(c, "SELECT * FROM edited"));
			}
			exec(c, "CREATE FUNCTION rows_of() RETURNS refcursor LANGUAGE plpgsql AS $$ DECLARE r refcursor; BEGIN OPEN r FOR SELECT 1 AS a UNION ALL SELECT 2; RETURN r; END $$");
			try (CallableStatement call = c.prepareCall("{? = call rows_of()}")) {
				call.registerOutParameter(1, Types.OTHER);
				call.execute();
				try (ResultSet r = (ResultSet) call.getObject(1)) { while (r.next()) say("by cursor", r.getInt(1)); }
			}
			c.commit();
			DatabaseMetaData m = c.getMetaData();
			try (ResultSet r = m.getColumns(null, SCHEMA, "edited", "%")) { while (r.next()) say(r.getString("COLUMN_NAME"), r.getString("TYPE_NAME"), r.getString("IS_NULLABLE")); }
			try (ResultSet r = m.getTables(null, SCHEMA, "%", new String[] {"TABLE"})) { while (r.next()) say(r.getString("TABLE_NAME")); }
		}
	}

	public static void main(String[] args) throws Exception {
		System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8));
		TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
		Locale.setDefault(Locale.ROOT);
		URI uri = new URI(args[0]);
		user = uri.getUserInfo() == null ? "postgres" : uri.getUserInfo().split(":")[0];
		url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath();
		try (Connection c = DriverManager.getConnection(url, user, "")) {
			exec(c, "SET client_min_messages TO warning", "DROP SCHEMA IF EXISTS " + SCHEMA + " CASCADE", "CREATE SCHEMA " + SCHEMA);
		}
		Map<String, Section> sections = new LinkedHashMap<>();
		sections.put("startup", JdbcSuite::startup);
		sections.put("types_text_and_binary", JdbcSuite::typesTextAndBinary);
		sections.put("prepared", JdbcSuite::prepared);
		sections.put("transactions", JdbcSuite::transactions);
		sections.put("errors", JdbcSuite::errors);
		sections.put("notices", JdbcSuite::notices);
		sections.put("copy", JdbcSuite::copy);
		sections.put("cancel", JdbcSuite::cancel);
		sections.put("large", JdbcSuite::large);
		sections.put("listen_notify", JdbcSuite::listenNotify);
		sections.put("session_state", JdbcSuite::sessionState);
		sections.put("cursors", JdbcSuite::cursors);
		for (var section : sections.entrySet()) {
			say("==", section.getKey());
			try {
				section.getValue().run();
			} catch (Throwable error) { // one broken section must not hide the others
				say("!! broken:", error, Arrays.toString(error.getStackTrace()).substring(0, 300));
			}
		}
		say("== end");
		System.exit(0);
	}
}
