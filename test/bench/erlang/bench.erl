%% The programs of bench_runtime.c in Erlang, for the column beside ours. Prints a line of JSON for each figure.
%% A figure in ns is CPU time per operation of the whole VM (all its threads); bench:main is called by ./run.
-module(bench).
-behaviour(supervisor).
-export([main/1, init/1, start_child/1]).

-define(BATCH, 1000). %% messages in flight before the sender waits: bounds the mailbox, and costs a thousandth

main([Figures, Length, Dir]) ->
    logger:set_primary_config(level, none), %% crashes are what is measured: their reports aren't
    Scale = case Length of quick -> 1; full -> 4 end,
    Run = fun(F) -> Self = self(), spawn_link(fun() -> F(Scale, atom_to_list(Dir)), Self ! done end), receive done -> ok end end,
    lists:foreach(Run, figures(Figures)).

figures(one_scheduler) ->
    [fun flood/2, fun ping_pong/2, fun ask/2, fun spawn_exit/2, fun idle/2, fun timer_late/2, fun restart/2, fun store/2];
figures(two_schedulers) ->
    [fun cross/2].

figure(Name, Value, Unit) ->
    io:format("{\"name\": \"~s\", \"value\": ~.2f, \"unit\": \"~s\", \"target\": null, \"met\": null}~n",
              [Name, float(Value), Unit]).

%% {CPU ns, wall ns} per operation of F, which does N of them.
per_op(N, F) ->
    erlang:garbage_collect(),
    {Cpu0, _} = statistics(runtime),
    Wall0 = erlang:monotonic_time(nanosecond),
    F(),
    Wall1 = erlang:monotonic_time(nanosecond),
    {Cpu1, _} = statistics(runtime),
    {(Cpu1 - Cpu0) * 1000000 / N, (Wall1 - Wall0) / N}.

%% One way: messages sent and dispatched, local.
flood(Scale, _) ->
    N = Scale * 3000000,
    {Cpu, Wall} = one_way(N, []),
    figure("send_dispatch_ns", Cpu, "ns"),
    figure("messages_per_s", 1.0e9 / Wall, "1/s").

%% The same from one scheduler to the other; 'scheduler' binds a process to one.
cross(Scale, _) ->
    Self = self(),
    spawn_opt(fun() -> {Cpu, _} = one_way(Scale * 2000000, [{scheduler, 2}]), Self ! {cross, Cpu} end, [link, {scheduler, 1}]),
    receive {cross, Cpu} -> figure("cross_worker_ns", Cpu, "ns") end.

one_way(N, SinkOptions) ->
    Sink = spawn_opt(fun() -> sink(0) end, [link | SinkOptions]),
    per_op(N, fun() -> batches(Sink, N div ?BATCH) end).

batches(_, 0) -> ok;
batches(Sink, N) ->
    batch(Sink, ?BATCH),
    Sink ! {ack, self()},
    receive ack -> batches(Sink, N - 1) end.

batch(_, 0) -> ok;
batch(Sink, N) -> Sink ! {add, N}, batch(Sink, N - 1).

sink(Sum) ->
    receive
        {add, N} -> sink(Sum + N);
        {ack, From} -> From ! ack, sink(Sum)
    end.

%% A message there and a message back, without gen_server.
ping_pong(Scale, _) ->
    N = Scale * 1000000,
    Pong = spawn_link(fun() -> sink(0) end),
    {Cpu, _} = per_op(N, fun() -> pings(Pong, N) end),
    figure("ping_pong_ns", Cpu, "ns").

pings(_, 0) -> ok;
pings(Pong, N) -> Pong ! {ack, self()}, receive ack -> pings(Pong, N - 1) end.

%% A request with a deadline and a monitor, answered.
ask(Scale, _) ->
    N = Scale * 500000,
    {ok, Server} = gen_server:start_link(bench_server, [self()], []),
    receive {running, _, _} -> ok end,
    {Cpu, _} = per_op(N, fun() -> asks(Server, N) end),
    figure("ask_reply_ns", Cpu, "ns").

asks(_, 0) -> ok;
asks(Server, N) -> N = gen_server:call(Server, {echo, N}, 5000), asks(Server, N - 1).

spawn_exit(Scale, _) ->
    N = Scale * 300000,
    {Cpu, _} = per_op(N, fun() -> spawns(N) end),
    figure("spawn_exit_monitor_ns", Cpu, "ns").

spawns(0) -> ok;
spawns(N) ->
    {Pid, Ref} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Ref, process, Pid, normal} -> spawns(N - 1) end.

%% Bytes the VM grows by for each process that waits for its first message.
idle(_, _) ->
    N = 100000,
    erlang:garbage_collect(),
    Before = erlang:memory(total),
    Pids = [spawn_link(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, N)],
    erlang:garbage_collect(),
    figure("idle_actor_bytes", (erlang:memory(total) - Before) / N, "bytes"),
    [Pid ! stop || Pid <- Pids].

%% How late a 5 ms timer of one process is while another one floods itself.
timer_late(Scale, _) ->
    Flood = spawn(fun() -> self() ! again, flood_self() end),
    Late = lists:sort([late() || _ <- lists:seq(1, Scale * 200)]),
    exit(Flood, kill),
    figure("timer_late_p99_us", lists:nth(length(Late) * 99 div 100, Late), "us").

flood_self() -> receive again -> self() ! again, flood_self() end.

late() ->
    At = erlang:monotonic_time(millisecond) + 5,
    erlang:start_timer(At, self(), due, [{abs, true}]),
    receive {timeout, _, due} -> max(0, erlang:monotonic_time(microsecond) - At * 1000) end.

%% From a child's crash to its successor running: the median, wall time. Paced, as a supervisor's work grows with the
%% number of restarts in its period.
restart(Scale, _) ->
    process_flag(trap_exit, true),
    {ok, Supervisor} = supervisor:start_link(?MODULE, self()),
    First = receive {running, Pid, _} -> Pid end,
    {Times, _} = lists:mapfoldl(fun restart_once/2, First, lists:seq(1, Scale * 100)),
    figure("actor_restart_us", lists:nth(length(Times) div 2, lists:sort(Times)) / 1000, "us"),
    unlink(Supervisor),
    exit(Supervisor, kill).

restart_once(_, Child) ->
    timer:sleep(5),
    gen_server:cast(Child, crash),
    Crashed = receive {crashing, Child, T0} -> T0 end,
    receive {running, Next, T1} -> {T1 - Crashed, Next} end.

init(Owner) ->
    {ok, {#{strategy => one_for_one, intensity => 1000000, period => 1},
          [#{id => child, start => {?MODULE, start_child, [Owner]}}]}}.

start_child(Owner) -> gen_server:start_link(bench_server, [Owner], []).

%% Durable records: 256 clients, one writer that commits what has come in the meantime with one sync.
store(Scale, Dir) ->
    {ok, Log} = disk_log:open([{name, bench}, {file, Dir ++ "/store.log"}]),
    Self = self(),
    Writer = spawn_link(fun() -> writer(Log) end),
    {Clients, Each} = {256, Scale * 40},
    Start = erlang:monotonic_time(nanosecond),
    [spawn_link(fun() -> puts(Writer, Each), Self ! stored end) || _ <- lists:seq(1, Clients)],
    [receive stored -> ok end || _ <- lists:seq(1, Clients)],
    Took = erlang:monotonic_time(nanosecond) - Start,
    figure("store_records_per_s", Clients * Each * 1.0e9 / Took, "1/s"),
    unlink(Writer),
    exit(Writer, kill),
    disk_log:close(Log).

puts(_, 0) -> ok;
puts(Writer, N) -> Writer ! {put, self(), {N, <<0:800>>}}, receive stored -> puts(Writer, N - 1) end.

writer(Log) ->
    Puts = receive {put, Client, Put} -> [{Client, Put} | queued()] end,
    ok = disk_log:log_terms(Log, [Record || {_, Record} <- Puts]),
    ok = disk_log:sync(Log),
    [From ! stored || {From, _} <- Puts],
    writer(Log).

queued() -> receive {put, From, Record} -> [{From, Record} | queued()] after 0 -> [] end.
