%% The child of the restart program and the server of the ask program: tells its owner when it runs and when it crashes.
-module(bench_server).
-behaviour(gen_server).
-export([init/1, handle_call/3, handle_cast/2]).

init([Owner]) ->
    Owner ! {running, self(), erlang:monotonic_time(nanosecond)},
    {ok, Owner}.

handle_call({echo, X}, _From, Owner) -> {reply, X, Owner}.

handle_cast(crash, Owner) ->
    Owner ! {crashing, self(), erlang:monotonic_time(nanosecond)},
    exit(crash).
