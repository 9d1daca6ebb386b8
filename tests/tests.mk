# The test tiers. `make check` runs them all and ends with one line that counts.

.PHONY: check check-long check-lint check-unit check-guest check-lab check-system
check: ## every test this machine can run (at most 15 minutes)
	@tools/deps check
	@tests/check

check-long: ## the same with full sizes and rounds
	@tools/deps check
	@tests/check --long

# --- unit: cmocka, rooms without KVM, under ASan and UBSan (glibc: sanitizers refuse musl) -------
U       := build/unit
U_ROOMS := core boot host virtio config
U_SRCS  := $(foreach r,$(U_ROOMS),$(sort $(wildcard $(r)/*.c)))
U_OBJS  := $(U_SRCS:%.c=$(U)/obj/%.o)
U_TESTS := $(patsubst tests/unit/%.c,$(U)/%,$(sort $(wildcard tests/unit/test_*.c)))
U_CC    := clang
U_FLAGS := $(BASE) -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
           -fno-sanitize-recover=all -Wall -Wextra -Wshadow $(if $(WERROR),-Werror)

$(U)/obj/%.o: %.c
	$(Q)mkdir -p $(@D)
	$(Q)$(U_CC) $(U_FLAGS) -MMD -MP -c -o $@ $<

$(U)/test_%: $(U)/obj/tests/unit/test_%.o $(U_OBJS)
	$(Q)$(U_CC) $(U_FLAGS) -o $@ $^ -lcmocka -lpthread

-include $(U_OBJS:.o=.d) $(U_TESTS:$(U)/%=$(U)/obj/tests/unit/%.d)
.SECONDARY:

.PHONY: unit-tests guest-tests
unit-tests: $(U_TESTS)

# --- guest: freestanding guests, each a small ELF -------------------------------------------------
G       := build/guest-tests
G_SRCS  := $(sort $(wildcard tests/guest/*.c))
guest-tests:

check-unit: ## cmocka tests under ASan and UBSan
	@tests/check unit

check-guest: ## freestanding guests on this host's /dev/kvm
	@tests/check guest

check-system: ## Linux guests, on real KVM or in the lab
	@tests/check system

check-lab: ## the lab itself
	@tests/check lab

check-lint: ## what `make lint` finds, and the include rule
	@tests/check lint
