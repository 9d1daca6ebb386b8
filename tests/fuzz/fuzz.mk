# Fuzzing: libFuzzer over the rooms without KVM, as in the unit tests, under ASan and UBSan.
#
#   make fuzz TARGET=queue TIME=60     what it finds lands in build/fuzz/artifacts/
#   make fuzz TARGET=mmio SAN=thread   the same under ThreadSanitizer
#   make fuzz-merge TARGET=queue       takes the inputs that reach something new into the corpus
#   make fuzz-coverage                 which lines the corpus reaches
#
# A target is tests/fuzz/fuzz_NAME.c and the folder tests/fuzz/corpus/NAME; nothing else lists
# them. Rooms and helpers are compiled once a flavour and linked from archives, so that a target or
# a helper that includes a room's .c file takes its place.
SAN       ?=
F_FLAVOUR := $(if $(SAN),$(SAN),address)
F         := build/fuzz/$(F_FLAVOUR)
F_SRCS    := $(U_SRCS)
F_NAMES   := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
F_HELPERS := $(filter-out $(F_NAMES:%=tests/fuzz/fuzz_%.c),$(sort $(wildcard tests/fuzz/*.c)))
F_ROOM_O  := $(F_SRCS:%.c=$(F)/obj/%.o)
F_HELP_O  := $(F_HELPERS:%.c=$(F)/obj/%.o)

F_SAN_address  := -fsanitize=address,undefined -fno-sanitize-recover=all
F_SAN_thread   := -fsanitize=thread
F_SAN_coverage := -fprofile-instr-generate -fcoverage-mapping
ifeq ($(F_SAN_$(F_FLAVOUR)),)
$(error SAN=$(SAN): no such flavour (address, thread, coverage))
endif
F_FLAGS := $(BASE) -O2 -g -fno-omit-frame-pointer $(F_SAN_$(F_FLAVOUR)) -Wall -Wextra -Wshadow \
           $(if $(WERROR),-Werror)

# What guides libFuzzer. Its counters are no atomics, so under ThreadSanitizer it goes unguided.
F_GUIDE := $(if $(filter thread,$(F_FLAVOUR)),,-fsanitize=fuzzer-no-link)

$(F)/obj/%.o: %.c tests/fuzz/fuzz.mk | build/gen/seccomp/filters.h
	$(Q)mkdir -p $(@D)
	$(Q)$(U_CC) $(F_FLAGS) $(F_GUIDE) -MMD -MP -c -o $@ $<

$(F)/rooms.a: $(F_ROOM_O)
$(F)/helpers.a: $(F_HELP_O)
$(F)/rooms.a $(F)/helpers.a:
	$(Q)rm -f $@ && ar rcs $@ $^

$(F)/fuzz_%: $(F)/obj/tests/fuzz/fuzz_%.o $(F)/helpers.a $(F)/rooms.a
	$(Q)$(U_CC) $(F_FLAGS) -fsanitize=fuzzer -o $@ $^ -lcmocka $(LIBURING) -lpthread

-include $(F_ROOM_O:.o=.d) $(F_HELP_O:.o=.d) $(F_NAMES:%=$(F)/obj/tests/fuzz/fuzz_%.d)

.PHONY: fuzz fuzz-targets fuzz-merge fuzz-coverage check-fuzz
fuzz-targets: $(F_NAMES:%=$(F)/fuzz_%)

TARGET ?=
TIME   ?= 60
fuzz: ## fuzz TARGET= for TIME= seconds; without a target: which there are
	@SAN=$(SAN) tests/fuzz/run fuzz '$(TARGET)' '$(TIME)'

fuzz-merge: ## take what fuzzing TARGET= found new into the corpus
	@tests/fuzz/run merge '$(TARGET)'

fuzz-coverage: ## the lines that the fuzz corpora reach, by file
	@tools/deps check
	@tests/fuzz/run coverage

check-fuzz: ## the fuzz corpora, and two seconds of fuzzing for each target
	@tests/check fuzz
