# The test tiers. `make check` runs them all and ends with one line that counts.

.PHONY: check check-long check-lint check-unit check-guest check-binary check-lab check-system
check: ## every test this machine can run (at most 15 minutes)
	@tools/deps check
	@tests/check

check-long: ## the same with full sizes and rounds
	@tools/deps check
	@tests/check --long

# --- unit: cmocka, rooms without KVM, under ASan and UBSan (glibc: sanitizers refuse musl) -------
U       := build/unit
U_ROOMS := core boot host virtio seccomp config
U_SRCS  := $(filter $(U_ROOMS:%=%/%),$(SRCS))
U_OBJS  := $(U_SRCS:%.c=$(U)/obj/%.o)
U_TESTS := $(patsubst tests/unit/%.c,$(U)/%,$(sort $(wildcard tests/unit/test_*.c)))
U_CC    := clang
U_FLAGS := $(BASE) -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
           -fno-sanitize-recover=all -Wall -Wextra -Wshadow $(if $(WERROR),-Werror)

$(U)/obj/%.o: %.c | build/gen/seccomp/filters.h
	$(Q)mkdir -p $(@D)
	$(Q)$(U_CC) $(U_FLAGS) -MMD -MP -c -o $@ $<

$(U)/test_%: $(U)/obj/tests/unit/test_%.o $(U_OBJS)
	$(Q)$(U_CC) $(U_FLAGS) -o $@ $^ -lcmocka $(LIBURING) -lpthread

-include $(U_OBJS:.o=.d) $(U_TESTS:$(U)/%=$(U)/obj/tests/unit/%.d)
.SECONDARY:

.PHONY: unit-tests guest-tests
unit-tests: $(U_TESTS)

# --- guest: freestanding guests, each a small ELF; helpers of the host beside them ----------------
G       := build/guest-tests
G_CC    := gcc
G_FLAGS := -std=gnu17 -O2 -g -ffreestanding -nostdlib -static -fno-pie -mno-red-zone \
           -mgeneral-regs-only -fno-stack-protector -fno-asynchronous-unwind-tables \
           -fcf-protection=none -Wall -Wextra -Wshadow $(if $(WERROR),-Werror)
G_LINK  := -no-pie -Wl,-z,noexecstack,--build-id=none -T tests/guest/lib/link.ld
G_LIB   := $(patsubst %,$(G)/obj/%.o,$(sort $(wildcard tests/guest/lib/*.[cS])))
G_NAMES := $(patsubst tests/guest/%.c,%,$(sort $(wildcard tests/guest/*.c)))
G_HOST  := $(patsubst tests/guest/host/%.c,%,$(sort $(wildcard tests/guest/host/*.c)))

$(G)/obj/tests/guest/%.o: tests/guest/% tests/tests.mk
	$(Q)mkdir -p $(@D)
	$(Q)$(G_CC) $(G_FLAGS) -MMD -MP -c -o $@ $<

$(G_NAMES:%=$(G)/%): $(G)/%: $(G)/obj/tests/guest/%.c.o $(G_LIB) tests/guest/lib/link.ld
	$(Q)$(G_CC) $(G_FLAGS) $(G_LINK) -o $@ $(filter %.o,$^)

# The same guest without a 64-bit entry: PVH is the only way into it.
$(G)/facts-pvh: $(G)/facts
	$(Q)cp $< $@.tmp
	$(Q)printf '\0\0\0\0\0\0\0\0' | dd of=$@.tmp bs=1 seek=24 conv=notrunc status=none
	$(Q)mv $@.tmp $@

$(G_HOST:%=$(G)/%): $(G)/%: tests/guest/host/%.c $(wildcard tests/guest/host/*.h) tests/tests.mk
	$(Q)mkdir -p $(@D)
	$(Q)$(G_CC) $(BASE) -O2 -g -Wall -Wextra -Wshadow $(if $(WERROR),-Werror) -o $@ $<

-include $(G_LIB:.o=.d) $(G_NAMES:%=$(G)/obj/tests/guest/%.c.d)

guest-tests: $(G_NAMES:%=$(G)/%) $(G_HOST:%=$(G)/%) $(G)/facts-pvh

check-unit: ## cmocka tests under ASan and UBSan
	@tests/check unit

check-guest: ## freestanding guests on this host's /dev/kvm
	@tests/check guest

check-system: ## Linux guests, on real KVM or in the lab
	@tests/check system

check-binary: ## what the build promises of its binary
	@tests/check binary

check-lab: ## the lab itself
	@tests/check lab

check-lint: ## what `make lint` finds, and the include rule
	@tests/check lint

include tests/chaos.mk tests/tsan.mk tests/fuzz/fuzz.mk
