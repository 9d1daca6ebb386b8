# The hostile guest with two vCPUs: one guest of several files. Included by tests/tests.mk.
G_CHAOS := $(patsubst %,$(G)/obj/%.o,$(sort $(wildcard tests/guest/chaos/*.c)))

$(G)/chaos: $(G_CHAOS) $(G_LIB) tests/guest/lib/link.ld
	$(Q)$(G_CC) $(G_FLAGS) $(G_LINK) -o $@ $(filter %.o,$^)

guest-tests: $(G)/chaos

-include $(G_CHAOS:.o=.d)
