#!/usr/bin/ruby
# ruby-pg against one URL. See psycopg_suite.py for the form of the output.
require 'digest'
require 'pg'

URL = ARGV[0]
SCHEMA = 'clients_ruby'
$stdout.sync = true

def say(*parts)
  puts parts.map { |part| part.is_a?(String) ? part : part.inspect }.join(' ')
end

def connect(**options)
  conn = PG.connect(URL, **options)
  conn.set_notice_receiver do |result|
    say 'notice:', result.error_field(PG::PG_DIAG_SEVERITY), result.error_field(PG::PG_DIAG_SQLSTATE),
        result.error_field(PG::PG_DIAG_MESSAGE_PRIMARY)
  end
  conn.exec("SET search_path TO #{SCHEMA}, public")
  return conn unless block_given?

  begin
    yield conn
  ensure
    conn.finish unless conn.finished?
  end
end

FIELDS = PG::Constants.constants.grep(/\APG_DIAG_/).sort

def attempt(every_field: false)
  yield
rescue PG::Error => e
  say 'error:', e.class.name, e.result ? e.result.error_field(PG::PG_DIAG_SQLSTATE) : e.message.lines.first[/FATAL.*/] || e.message
  if every_field && e.result
    FIELDS.each do |field|
      value = e.result.error_field(PG::Constants.const_get(field))
      say ' ', field.to_s, '=', value if value
    end
  end
  nil
end

SECTIONS = {}

def section(name, &block)
  SECTIONS[name] = block
end

section 'startup' do
  connect(application_name: 'suite app', options: '-c work_mem=1234kB') do |conn|
    %w[application_name work_mem client_encoding].each { |n| say n, conn.exec("SHOW #{n}").getvalue(0, 0) }
    %w[server_version DateStyle TimeZone application_name is_superuser].each { |n| say n, conn.parameter_status(n) }
    say conn.server_version, conn.protocol_version, conn.internal_encoding.to_s
    conn.exec("SET client_encoding TO 'LATIN1'")
    say conn.exec("SELECT '\xE9'::text".b).getvalue(0, 0).bytes, conn.parameter_status('client_encoding')
  end
  attempt { PG.connect(URL, dbname: 'no_such_database') }
end

section 'types_text_and_binary' do
  connect do |conn|
    conn.exec("SET TimeZone TO 'Europe/Warsaw'")
    File.foreach(File.join(__dir__, 'types.tsv'), chomp: true) do |line|
      name, text = line.split("\t", 2)
      [0, 1].each do |format|
        attempt do
          result = conn.exec_params("SELECT #{conn.escape_literal(text)}::#{name} AS v", [], format)
          say name, format, result.fformat(0), result.ftype(0), result.fmod(0), Digest::MD5.hexdigest(result.getvalue(0, 0))
        end
      end
      attempt { say name, 'back', conn.exec_params("SELECT ($1::#{name})::text", [text]).getvalue(0, 0) }
    end
    conn.type_map_for_results = PG::BasicTypeMapForResults.new(conn)
    say conn.exec("SELECT 1, 2.5, true, 'x', ARRAY[1,2], '2024-02-29'::date, NULL").values
    conn.type_map_for_queries = PG::BasicTypeMapForQueries.new(conn)
    say conn.exec_params('SELECT $1, $2, $3, $4::text', [5, 1.5, [1, 2], 'ż']).values
  end
end

section 'prepared' do
  connect do |conn|
    conn.exec('CREATE TABLE item (id int PRIMARY KEY, name text)')
    conn.prepare('ins', 'INSERT INTO item VALUES ($1, $2)')
    20.times { |n| conn.exec_prepared('ins', [n, "n#{n}"]) }
    say conn.exec('SELECT count(*), max(name) FROM item').values
    description = conn.describe_prepared('ins')
    say description.nparams, (0...description.nparams).map { |n| description.paramtype(n) }
    attempt { conn.prepare('ins', 'SELECT 1') }
    attempt { conn.exec_prepared('nosuch', []) }
    attempt { conn.exec_prepared('ins', [1]) }
    attempt { conn.exec_prepared('ins', [1, 'dup']) }
    conn.exec('DEALLOCATE ins')
    attempt { conn.exec_prepared('ins', [100, 'x']) }
    conn.prepare('', 'SELECT $1::int + 1 AS unnamed')
    say conn.exec_prepared('', [41]).values
    connect do |other|
      conn.prepare('same', "SELECT 'one'")
      other.prepare('same', "SELECT 'two'")
      3.times { say conn.exec_prepared('same').values, other.exec_prepared('same').values }
    end
  end
end

section 'transactions' do
  connect do |conn|
    conn.exec('CREATE TABLE account (id int PRIMARY KEY, amount int)')
    conn.transaction { |c| c.exec('INSERT INTO account VALUES (1, 10), (2, 20)') }
    attempt { conn.transaction { |c| c.exec('UPDATE account SET amount = 0'); c.exec('INSERT INTO account VALUES (1, 1)') } }
    say conn.exec('SELECT * FROM account ORDER BY id').values, conn.transaction_status
    conn.exec('BEGIN')
    conn.exec('SAVEPOINT a')
    attempt { conn.exec('SELECT nothing') }
    say conn.transaction_status
    attempt { conn.exec('SELECT 1') }
    conn.exec('ROLLBACK TO SAVEPOINT a')
    say conn.transaction_status, conn.exec('COMMIT').cmd_status
    conn.exec('BEGIN')
    attempt { conn.exec('SELECT 1/0') }
    say conn.exec('COMMIT').cmd_status
    conn.send_query("SELECT 1; INSERT INTO account VALUES (3, 30); SELECT 'x' AS y; SELECT 1/0; SELECT 2")
    while (result = conn.get_result)
      say result.res_status(result.result_status), result.cmd_status, result.values
    end
    say conn.exec('SELECT count(*) FROM account').values
  end
end

section 'errors' do
  connect do |conn|
    conn.exec("SET lc_messages TO 'C'")
    conn.exec('CREATE TABLE child (id int NOT NULL CONSTRAINT one UNIQUE, n int CONSTRAINT small CHECK (n < 10))')
    conn.exec('INSERT INTO child VALUES (1)')
    ['INSERT INTO child VALUES (1)', 'INSERT INTO child VALUES (NULL)', 'INSERT INTO child VALUES (2, 50)', 'SELEC 1',
     'SELECT nic', 'SELECT 1/0', "SELECT 'x'::int", 'SELECT nope(1, 2)', "DO $$ BEGIN RAISE 'own' USING HINT = 'h'; END $$"].each do |query|
      attempt(every_field: true) { conn.exec(query) }
      attempt(every_field: true) { conn.exec_params(query, []) }
    end
  end
end

section 'notices' do
  connect do |conn|
    conn.exec("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
    conn.exec('DROP TABLE IF EXISTS never_was')
    conn.exec('COMMIT')
  end
end

section 'copy' do
  connect do |conn|
    conn.exec('CREATE TABLE copied (id int, name text)')
    say conn.copy_data('COPY copied FROM STDIN', PG::TextEncoder::CopyRow.new) { 3000.times { |n| conn.put_copy_data([n, n == 5 ? nil : "row #{n}"]) } }.cmd_status
    digest = Digest::MD5.new
    conn.copy_data('COPY (SELECT * FROM copied ORDER BY id) TO STDOUT (FORMAT csv)') { while (row = conn.get_copy_data); digest << row; end }
    say digest.hexdigest
    attempt(every_field: true) { conn.copy_data('COPY copied FROM STDIN') { conn.put_copy_data("x\ty\n") } }
    attempt { conn.copy_data('COPY copied FROM STDIN') { conn.put_copy_data("1\ty\n"); raise PG::Error, 'given up' } }
    attempt { conn.copy_data('COPY copied TO STDOUT') { conn.get_copy_data } }
    say conn.transaction_status, conn.exec('SELECT count(*) FROM copied').values
  end
end

section 'cancel' do
  connect do |conn|
    2.times do
      started = Time.now
      conn.send_query('SELECT pg_sleep(20)')
      sleep 0.3
      say conn.cancel
      attempt { conn.get_last_result }
      say Time.now - started < 10, conn.exec("SELECT 'usable'").values
    end
  end
end

section 'large' do
  connect do |conn|
    big = conn.exec("SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) i").getvalue(0, 0)
    say big.size, conn.exec_params('SELECT $1::text', [big]).getvalue(0, 0) == big
    result = conn.exec('SELECT i, md5(i::text) FROM generate_series(1, 100000) i')
    say result.ntuples, Digest::MD5.hexdigest(result.values.flatten.join(','))
    conn.send_query('SELECT i FROM generate_series(1, 50000) i')
    conn.set_single_row_mode
    say conn.get_result.stream_each_row.sum { |row| row[0].to_i }
    while conn.get_result; end
  end
end

section 'pipelines' do
  connect do |conn|
    conn.exec('CREATE TABLE piped (id int PRIMARY KEY)')
    conn.enter_pipeline_mode
    5.times do |n|
      conn.send_query_params('INSERT INTO piped VALUES ($1) RETURNING id', [n == 3 ? 1 : n])
    end
    conn.pipeline_sync
    conn.send_query_params('SELECT count(*) FROM piped', [])
    conn.pipeline_sync
    synced = 0
    nils = 0
    while synced < 2 && nils < 20
      result = conn.get_result
      nils = result ? 0 : nils + 1
      next unless result

      say result.res_status(result.result_status), result.cmd_status, result.error_field(PG::PG_DIAG_SQLSTATE)
      synced += 1 if result.result_status == PG::PGRES_PIPELINE_SYNC
    end
    conn.exit_pipeline_mode
  end
end

section 'listen_notify' do
  connect do |hears|
    connect do |speaks|
      hears.exec('LISTEN news')
      sender = speaks.backend_pid
      speaks.exec("NOTIFY news, 'first'")
      say(hears.wait_for_notify(5) { |channel, pid, payload| say channel, payload, pid == sender } ? 'heard' : 'nothing')
      speaks.transaction { |c| c.exec("SELECT pg_notify('news', 'in a transaction')") }
      say(hears.wait_for_notify(5) { |channel, pid, payload| say channel, payload, pid == sender } ? 'heard' : 'nothing')
      hears.exec('UNLISTEN news')
      speaks.exec("NOTIFY news, 'unheard'")
      say hears.wait_for_notify(0.3).inspect
    end
  end
end

section 'settings_temp_tables_and_locks' do
  connect do |one|
    connect do |two|
      one.exec("SET work_mem TO '7MB'; SET app.tenant TO 'blue'")
      two.exec("SET app.tenant TO 'red'; CREATE TEMP TABLE scratch AS SELECT 2 AS a")
      one.exec('CREATE TEMP TABLE scratch AS SELECT 1 AS a')
      3.times do
        say one.exec("SELECT current_setting('work_mem'), current_setting('app.tenant'), a FROM scratch").values,
            two.exec("SELECT current_setting('app.tenant'), a FROM scratch").values
      end
      say one.exec('SELECT pg_try_advisory_lock(7310021)').values, two.exec('SELECT pg_try_advisory_lock(7310021)').values
      say one.exec('SELECT pg_advisory_unlock(7310021)').values, two.exec('SELECT pg_try_advisory_lock(7310021)').values
      one.reset
      say one.exec("SELECT current_setting('app.tenant', true), to_regclass('scratch')").values
    end
  end
end

section 'cursors' do
  connect do |conn|
    conn.transaction do
      conn.exec('DECLARE walk SCROLL CURSOR FOR SELECT i FROM generate_series(1, 1000) i')
      say conn.exec('FETCH 3 FROM walk').values, conn.exec('MOVE ABSOLUTE 500 IN walk').cmd_status,
          conn.exec('FETCH BACKWARD 2 FROM walk').values
    end
    attempt { conn.exec('FETCH 1 FROM walk') }
    conn.exec('DECLARE held CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 10) i')
    3.times { say conn.exec('FETCH 2 FROM held').values }
    say conn.exec('CLOSE held').cmd_status
  end
end

conn = PG.connect(URL)
conn.exec("SET client_min_messages TO warning; DROP SCHEMA IF EXISTS #{SCHEMA} CASCADE; CREATE SCHEMA #{SCHEMA}")
conn.finish
SECTIONS.each do |name, block|
  say '==', name
  begin
    block.call
  rescue StandardError => e # one broken section must not hide the others
    say '!! broken:', e.class.name, e.message
  end
end
say '== end'
