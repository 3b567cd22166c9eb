# Multigres in C. `make help` lists the targets; FLAVOUR is one of debug release asan tsan cov fuzz.
FLAVOUR ?= release
B       ?= build/$(FLAVOUR)
CC      ?= gcc

WARN  = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wcast-qual -Wundef -Werror
BASE  = -std=gnu17 -I. -isystem /usr/include/postgresql -D_GNU_SOURCE -g -fno-omit-frame-pointer -pthread $(WARN) -include runtime/base/banned.h
HARD  = -fstack-protector-strong -fstack-clash-protection -fPIE
release_CFLAGS = -O2 -D_FORTIFY_SOURCE=2
debug_CFLAGS   = -O0 -DRUNTIME_DEBUG=1
asan_CFLAGS    = -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -DRUNTIME_DEBUG=1
tsan_CFLAGS    = -O1 -fsanitize=thread
cov_CFLAGS     = -O0 --coverage
fuzz_CFLAGS    = -O1 -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -DRUNTIME_DEBUG=1
asan_LDFLAGS   = -fsanitize=address,undefined
tsan_LDFLAGS   = -fsanitize=thread
cov_LDFLAGS    = --coverage
fuzz_LDFLAGS   = -fsanitize=address,undefined,fuzzer

CFLAGS_ALL  = $(BASE) $(HARD) $($(FLAVOUR)_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now -pthread $($(FLAVOUR)_LDFLAGS) $(LDFLAGS)
LIBS = -luv -lmsgpackc -lnng -llmdb -lpq -lssl -lcrypto -lmicrohttpd -lcurl -ljansson

LIB_DIRS = runtime/base runtime/core runtime/drive runtime/sim runtime/store runtime/flow topo \
           actors/pg actors/gate actors/tablet actors/orc actors/vstream supervisor
PROGRAMS = multigres mgctl
MAINS    = $(PROGRAMS:%=supervisor/%_main.c)
LIB_SRC  = $(filter-out $(MAINS),$(wildcard $(addsuffix /*.c,$(LIB_DIRS))))
LIB_OBJ  = $(LIB_SRC:%.c=$B/%.o)
UNIT     = $(patsubst test/unit/%.c,$B/test/unit/%,$(wildcard test/unit/test_*.c))
SIMS     = $(patsubst test/sim/%.c,$B/test/sim/%,$(wildcard test/sim/test_*.c))
BENCHES  = $(patsubst test/bench/%.c,$B/test/bench/%,$(wildcard test/bench/*.c))
FUZZERS  = $(patsubst test/fuzz/%.c,$B/test/fuzz/%,$(wildcard test/fuzz/fuzz_*.c))
TOOLS    = $(patsubst test/pg/%.c,$B/test/pg/%,$(wildcard test/pg/*.c))

.PHONY: all check help clean unit sim fuzzers benches tools format layering tidy
.SECONDARY:

all: $(PROGRAMS:%=$B/%) ## build the programs (build/multigres, build/mgctl)
	@mkdir -p build && for p in $(PROGRAMS); do ln -sf $(FLAVOUR)/$$p build/$$p; done

$B/libmultigres.a: $(LIB_OBJ)
	@rm -f $@
	@ar rcs $@ $^

$B/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $<"
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(PROGRAMS:%=$B/%): $B/%: $B/supervisor/%_main.o $B/libmultigres.a
	@echo "  LD $@"
	@$(CC) $(LDFLAGS_ALL) $^ -o $@ $(LIBS)

$(UNIT) $(SIMS): $B/test/%: $B/test/%.o $B/libmultigres.a
	@$(CC) $(LDFLAGS_ALL) $^ -o $@ -lcheck -lsubunit -lrt -lm $(LIBS)

$(BENCHES) $(TOOLS): $B/test/%: $B/test/%.o $B/libmultigres.a
	@$(CC) $(LDFLAGS_ALL) $^ -o $@ -lm $(LIBS)

$(FUZZERS): $B/test/fuzz/%: $B/test/fuzz/%.o $B/libmultigres.a
	@$(CC) $(LDFLAGS_ALL) $^ -o $@ $(LIBS)

unit: $(UNIT) ## build the unit tests
sim: $(SIMS) ## build the simulator tests
fuzzers: $(FUZZERS) ## build the fuzzers (FLAVOUR=fuzz CC=clang)
benches: $(BENCHES) ## build the benchmark programs
tools: $(TOOLS) ## build the test clients

check: ## run everything CI runs
	@scripts/test

layering: ## includes point one way; each library has one home
	@scripts/check-layering

format: ## clang-format all of ours, in place
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

clean: ## remove all builds
	@rm -rf build

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | sort | expand -t 14

-include $(shell find $B -name '*.d' 2>/dev/null)
