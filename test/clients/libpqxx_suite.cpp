// libpqxx against one URL. See psycopg_suite.py for the form of the output.
#include <chrono>
#include <functional>
#include <iostream>
#include <pqxx/pqxx>
#include <thread>
#include <unistd.h>
#include <vector>

static std::string url;
static const std::string schema = "clients_libpqxx";

template <typename... Parts> static void say(const Parts &...parts)
{
	bool first = true;
	((std::cout << (first ? "" : " ") << parts, first = false), ...);
	std::cout << std::endl;
}

struct notices : pqxx::errorhandler {
	using pqxx::errorhandler::errorhandler;
	bool operator()(const char text[]) noexcept override
	{
		std::cout << "notice: " << text;
		return false;
	}
};

struct session : pqxx::connection {
	notices handler;
	explicit session(const std::string &to = url) : pqxx::connection(to), handler(*this)
	{
		pqxx::nontransaction(*this).exec("SET search_path TO " + schema + ", public");
	}
};

static void attempt(const std::function<void()> &what)
{
	try {
		what();
	} catch (const pqxx::sql_error &error) {
		say("error:", error.sqlstate(), error.what());
	} catch (const std::exception &error) {
		std::string what = error.what(); // a refused connection names host and port first
		say("failed:", what.substr(what.find("FATAL") == std::string::npos ? 0 : what.find("FATAL")));
	}
}

static void startup()
{
	session c;
	say(c.server_version(), c.protocol_version(), c.get_client_encoding(), c.is_open());
	c.set_client_encoding("LATIN1");
	say(c.get_client_encoding(), pqxx::nontransaction(c).exec1("SELECT length('\xe9')")[0].as<int>());
	attempt([] { session wrong(url.substr(0, url.rfind('/')) + "/no_such_database"); });
}

static void values()
{
	session c;
	pqxx::work t(c);
	auto row = t.exec_params1("SELECT $1::int8, $2::text, $3::bool, $4::float8, $5::text IS NULL, $6::bytea", 1LL << 40,
		"żółw", true, 0.1, static_cast<const char *>(nullptr), "\\x00ff");
	for (const auto &field : row)
		say(field.name(), field.type(), field.c_str());
	auto all = t.exec("SELECT i, md5(i::text), CASE WHEN i % 2 = 0 THEN i END FROM generate_series(1, 10) i");
	for (const auto &r : all)
		say(r[0].as<int>(), r[1].as<std::string>(), r[2].is_null() ? "null" : r[2].c_str());
	say(t.quote("it's"), t.esc("a'b"), all.columns(), all.size());
	t.commit();
}

static void prepared()
{
	session c, other;
	pqxx::nontransaction(c).exec0("CREATE TABLE item (id int PRIMARY KEY, name text)");
	c.prepare("ins", "INSERT INTO item VALUES ($1, $2)");
	c.prepare("same", "SELECT 'one'");
	other.prepare("same", "SELECT 'two'");
	pqxx::work t(c), o(other);
	for (int n = 0; n < 100; n++)
		t.exec_prepared0("ins", n, "n" + std::to_string(n));
	for (int n = 0; n < 3; n++)
		say(t.exec_prepared1("same")[0].c_str(), o.exec_prepared1("same")[0].c_str());
	say(t.exec1("SELECT count(*), max(name) FROM item")[1].c_str());
	t.commit();
	attempt([&] { pqxx::work(c).exec_prepared("ins", 1, "dup"); });
	c.unprepare("ins");
	attempt([&] { pqxx::work(c).exec_prepared("ins", 1000, "gone"); });
}

static void transactions()
{
	session c;
	pqxx::nontransaction(c).exec0("CREATE TABLE account (id int PRIMARY KEY, amount int CHECK (amount >= 0))");
	{
		pqxx::work t(c);
		t.exec0("INSERT INTO account VALUES (1, 10), (2, 20)");
		attempt([&] {
			pqxx::subtransaction s(t, "inner");
			s.exec0("UPDATE account SET amount = 11 WHERE id = 1");
			s.exec0("UPDATE account SET amount = -1 WHERE id = 2");
		});
		{
			pqxx::subtransaction s(t, "second");
			s.exec0("UPDATE account SET amount = 12 WHERE id = 1");
			s.commit();
		}
		t.commit();
	}
	{
		pqxx::work t(c);
		t.exec0("DELETE FROM account");
		t.abort();
	}
	attempt([&] {
		pqxx::transaction<pqxx::serializable, pqxx::read_only> t(c);
		say(t.exec1("SHOW transaction_isolation")[0].c_str());
		t.exec0("DELETE FROM account");
	});
	attempt([&] {
		pqxx::work t(c);
		attempt([&] { t.exec("SELECT 1/0"); });
		t.exec("SELECT 1");
	});
	pqxx::robusttransaction<> robust(c);
	robust.exec0("UPDATE account SET amount = amount + 100");
	robust.commit();
	pqxx::nontransaction t(c);
	for (const auto &r : t.exec("SELECT * FROM account ORDER BY id"))
		say(r[0].c_str(), r[1].c_str());
}

static void errors()
{
	session c;
	pqxx::nontransaction t(c);
	t.exec0("CREATE TABLE child (id int NOT NULL CONSTRAINT one UNIQUE)");
	t.exec0("INSERT INTO child VALUES (1)");
	for (auto query : {"INSERT INTO child VALUES (1)", "INSERT INTO child VALUES (NULL)", "SELEC 1", "SELECT nic", "SELECT 1/0",
		     "SELECT 'x'::int", "SELECT nope(1)", "DROP TABLE nowhere", "DO $$ BEGIN RAISE 'own' USING HINT = 'h'; END $$"})
		attempt([&] { t.exec(query); });
	t.exec("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING DETAIL = 'more'; END $$");
}

static void copy()
{
	session c;
	pqxx::nontransaction(c).exec0("CREATE TABLE copied (id int, name text)");
	pqxx::work t(c);
	pqxx::stream_to in(t, "copied", std::vector<std::string>{"id", "name"});
	for (int n = 0; n < 20000; n++)
		in << std::make_tuple(n, "row\t" + std::to_string(n));
	in.complete();
	pqxx::stream_from out(t, "copied", std::vector<std::string>{"id", "name"});
	std::tuple<int, std::string> row;
	long rows = 0, sum = 0, length = 0;
	while (out >> row) {
		rows++;
		sum += std::get<0>(row);
		length += static_cast<long>(std::get<1>(row).size());
	}
	out.complete();
	say(rows, sum, length);
	attempt([&] {
		pqxx::stream_to bad(t, "copied", std::vector<std::string>{"id", "name"});
		bad << std::make_tuple(std::string("x"), 1);
		bad.complete();
	});
	attempt([&] { t.exec("SELECT 1"); });
}

static void cancel()
{
	session c;
	for (int n = 0; n < 2; n++) {
		auto start = std::chrono::steady_clock::now();
		std::thread canceller([&] {
			std::this_thread::sleep_for(std::chrono::milliseconds(300));
			c.cancel_query();
		});
		attempt([&] { pqxx::nontransaction(c).exec("SELECT pg_sleep(20)"); });
		canceller.join();
		say("in time", std::chrono::steady_clock::now() - start < std::chrono::seconds(10),
			pqxx::nontransaction(c).exec1("SELECT 'usable'")[0].c_str());
	}
}

static void large()
{
	session c;
	pqxx::work t(c);
	auto big = t.exec1("SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) i")[0].as<std::string>();
	say(big.size(), t.exec_params1("SELECT $1::text = $2::text", big, big)[0].c_str());
	auto all = t.exec("SELECT i, md5(i::text) FROM generate_series(1, 100000) i");
	size_t hash = 0;
	for (const auto &r : all)
		for (const char *s = r[1].c_str(); *s; s++)
			hash = hash * 31 + static_cast<unsigned char>(*s);
	say(all.size(), hash);
}

static void pipelines()
{
	session c;
	pqxx::work t(c);
	pqxx::pipeline p(t);
	p.retain(50);
	for (int n = 0; n < 200; n++)
		p.insert("SELECT " + std::to_string(n) + " * 2");
	long sum = 0;
	while (!p.empty())
		sum += p.retrieve().second[0][0].as<long>();
	say("sum", sum);
	auto good = p.insert("SELECT 1");
	auto bad = p.insert("SELECT 1/0");
	auto lost = p.insert("SELECT 2");
	attempt([&] { say(p.retrieve(good)[0][0].c_str()); });
	attempt([&] { p.retrieve(bad); });
	attempt([&] { p.retrieve(lost); });
}

struct receiver : pqxx::notification_receiver {
	const int sender;
	receiver(pqxx::connection_base &c, const std::string &channel, int from) : notification_receiver(c, channel), sender(from) {}
	void operator()(const std::string &payload, int pid) override { say("heard", channel(), payload, pid == sender); }
};

static void listen_notify()
{
	session hears, speaks;
	receiver r(hears, "news", speaks.backendpid());
	pqxx::nontransaction(speaks).exec("NOTIFY news, 'first'");
	hears.await_notification(5, 0);
	{
		pqxx::work t(speaks);
		t.exec("NOTIFY news, 'in a transaction'");
		t.commit();
	}
	hears.await_notification(5, 0);
}

static void session_state()
{
	session one, two;
	pqxx::nontransaction a(one), b(two);
	a.exec("SET work_mem TO '7MB'; SET app.tenant TO 'blue'; CREATE TEMP TABLE scratch AS SELECT 1 AS a");
	b.exec("SET app.tenant TO 'red'; CREATE TEMP TABLE scratch AS SELECT 2 AS a");
	for (int n = 0; n < 3; n++) {
		say(a.exec1("SELECT concat_ws(' ', current_setting('work_mem'), current_setting('app.tenant'), a) FROM scratch")[0].c_str(),
			b.exec1("SELECT concat_ws(' ', current_setting('app.tenant'), a) FROM scratch")[0].c_str());
	}
	say(a.exec1("SELECT pg_try_advisory_lock(7310041)")[0].c_str(), b.exec1("SELECT pg_try_advisory_lock(7310041)")[0].c_str());
	say(a.exec1("SELECT pg_advisory_unlock(7310041)")[0].c_str(), b.exec1("SELECT pg_try_advisory_lock(7310041)")[0].c_str());
}

static void cursors()
{
	session c;
	pqxx::work t(c);
	pqxx::stateless_cursor<pqxx::cursor_base::read_only, pqxx::cursor_base::owned> walk(t,
		"SELECT i FROM generate_series(1, 1000) i", "walk", true);
	say(walk.size(), walk.retrieve(10, 12)[0][0].c_str(), walk.retrieve(12, 9)[0][0].c_str(), walk.retrieve(990, 1010).size());
	pqxx::icursorstream stream(t, "SELECT i FROM generate_series(1, 1000) i", "stream", 100);
	long sum = 0;
	pqxx::result part;
	while (stream >> part)
		for (const auto &r : part)
			sum += r[0].as<long>();
	say(sum);
	auto id = pqxx::largeobject(t).id();
	{
		pqxx::largeobjectaccess lo(t, id);
		lo.write("large object bytes");
		lo.seek(6, std::ios::beg);
		char bytes[7] = "";
		say(lo.read(bytes, 6), bytes);
	}
	pqxx::largeobject(id).remove(t);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	url = argv[1];
	alarm(150);
	std::cout << std::boolalpha;
	{
		pqxx::connection c(url);
		pqxx::nontransaction(c).exec("SET client_min_messages TO warning; DROP SCHEMA IF EXISTS " + schema +
			" CASCADE; CREATE SCHEMA " + schema);
	}
	const std::vector<std::pair<const char *, void (*)()>> sections = {{"startup", startup}, {"values", values},
		{"prepared", prepared}, {"transactions", transactions}, {"errors", errors}, {"copy", copy}, {"cancel", cancel},
		{"large", large}, {"pipelines", pipelines}, {"listen_notify", listen_notify}, {"session_state", session_state},
		{"cursors", cursors}};
	for (const auto &section : sections) {
		say("==", section.first);
		try {
			section.second();
		} catch (const std::exception &error) { // one broken section must not hide the others
			say("!! broken:", error.what());
		}
	}
	say("== end");
	return 0;
}
