# The monitor, and its unit tests, under sanitizers; tests/flavour runs them.
#
#   make tsan-tests   build/tsan/mayfly and build/tsan/unit/*: ThreadSanitizer
#   make asan-tests   build/asan/mayfly: AddressSanitizer and UBSan, whose unit tests are build/unit
#
# Built by clang with glibc (sanitizers refuse musl) from the sources of the shipped binary, as the
# Makefile names them: a new room comes along by itself. Included by tests/tests.mk.

S_CC     := clang
# KVM's lists end in a flexible array that kvm/ puts entries behind: the shipped build's compiler
# takes that without a word.
S_FLAGS  := $(BASE) -O1 -g -fno-omit-frame-pointer -Wall -Wextra -Wshadow \
            -Wno-gnu-variable-sized-type-not-at-end $(if $(WERROR),-Werror)
SAN_tsan := -fsanitize=thread
SAN_asan := -fsanitize=address,undefined -fno-sanitize-recover=all

# flavour NAME: other flags, other objects, as in the Makefile.
define flavour
S_OBJS_$(1) := $$(SRCS:%.c=build/$(1)/obj/%.o) $$(ASMS:%.S=build/$(1)/obj/%.o)
S_NOW_$(1)  := $(S_CC) $(S_FLAGS) $(SAN_$(1))

build/$(1)/flags: FORCE
	@mkdir -p $$(@D); echo '$$(subst ','\'',$$(S_NOW_$(1)))' | cmp -s - $$@ || \
	    echo '$$(subst ','\'',$$(S_NOW_$(1)))' > $$@

build/$(1)/obj/%.o: %.c build/$(1)/flags | build/gen/seccomp/filters.h
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(S_NOW_$(1)) -MMD -MP -c -o $$@ $$<

build/$(1)/obj/%.o: %.S build/$(1)/flags
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(S_NOW_$(1)) -MMD -MP -c -o $$@ $$<

build/$(1)/mayfly: $$(S_OBJS_$(1))
	$$(Q)$$(S_NOW_$(1)) -o $$@.tmp $$^ $(LIBURING) -lpthread
	$$(Q)mv $$@.tmp $$@

-include $$(patsubst %.o,%.d,$$(S_OBJS_$(1)))
endef
$(eval $(call flavour,tsan))
$(eval $(call flavour,asan))

TS_TESTS := $(patsubst tests/unit/%.c,build/tsan/unit/%,$(sort $(wildcard tests/unit/test_*.c)))

build/tsan/unit/test_%: build/tsan/obj/tests/unit/test_%.o $(U_SRCS:%.c=build/tsan/obj/%.o)
	$(Q)mkdir -p $(@D)
	$(Q)$(S_NOW_tsan) -o $@ $^ -lcmocka $(LIBURING) -lpthread

-include $(TS_TESTS:build/tsan/unit/%=build/tsan/obj/tests/unit/%.d)

.PHONY: tsan-tests asan-tests check-tsan check-asan
tsan-tests: build/tsan/mayfly $(TS_TESTS) guest-tests
asan-tests: build/asan/mayfly guest-tests

check-tsan: ## unit and guest tests under ThreadSanitizer
	@tests/check tsan

check-asan: ## guest tests under ASan and UBSan (part of check-long)
	@tests/check asan
