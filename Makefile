# Mayfly. `make help` lists the targets. Everything built lands in build/.
#
#   make DEBUG=1    the debug flavour, in build/debug (port 0x3f8 copied to stderr, assertions, -Og)
#   make WERROR=1   warnings are errors, as in make check

VERSION := 0.1.0
PREFIX  ?= /usr/local
DESTDIR ?=
DEBUG   ?=
WERROR  ?=
V       ?=

BUILD := build$(if $(DEBUG),/debug)

# Rooms of the shipped binary.
ROOMS := core kvm boot host virtio seccomp config
# Runs when Mayfly is built, and is no part of it.
BUILD_TIME := seccomp/policy.c
SRCS  := vmm.c report.c $(filter-out $(BUILD_TIME),$(foreach r,$(ROOMS),$(sort $(wildcard $(r)/*.c))))
ASMS  := $(foreach r,$(ROOMS),$(sort $(wildcard $(r)/*.S)))
OBJS  := $(SRCS:%.c=$(BUILD)/obj/%.o) $(ASMS:%.S=$(BUILD)/obj/%.o)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes \
        -Wmissing-prototypes -Wpointer-arith -Wvla -Wundef
BASE := -std=gnu17 -I. -Ibuild/gen -D_GNU_SOURCE -DMAYFLY_VERSION='"$(VERSION)"' $(if $(DEBUG),-DMAYFLY_DEBUG)

# musl-gcc sees no kernel headers by itself; they must come after musl's own.
CC       := musl-gcc
KHEADERS := -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
CFLAGS   := $(if $(DEBUG),-Og,-O2) -g -fPIE -fstack-protector-strong -fno-plt -fno-common \
            -ffunction-sections -fdata-sections
# musl-gcc -static-pie quietly makes a dynamic PIE: a real one is spelled out. (And musl-gcc
# -print-file-name finds glibc's start files, which relocate nothing here.)
MUSL_LIB := /usr/lib/$(shell uname -m)-linux-musl
# Debian's, of glibc: what a disk's engine calls of it makes its system calls itself.
LIBURING  = $(shell gcc -print-file-name=liburing.a 2>/dev/null)
LDFLAGS  := -static -nostartfiles -Wl,-pie,--no-dynamic-linker -Wl,-z,relro,-z,now \
            -Wl,-z,noexecstack -Wl,-z,separate-code -Wl,--gc-sections -Wl,--build-id=none

Q := $(if $(V),,@)

.PHONY: all
all: $(BUILD)/mayfly
ifeq ($(DEBUG),)
	$(Q)tools/size-line $(BUILD)/mayfly.stripped
endif

# `make install` ships the stripped copy; the other one is for gdb.
$(BUILD)/mayfly: $(OBJS)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@.tmp $(MUSL_LIB)/rcrt1.o $(MUSL_LIB)/crti.o $(OBJS) \
	    $(LIBURING) $(MUSL_LIB)/crtn.o
	$(Q)strip -o $(BUILD)/mayfly.stripped $@.tmp
	$(Q)mv $@.tmp $@

# The flags belong to the inputs: other flags, other objects.
FLAGS_NOW := $(CC) $(BASE) $(CFLAGS) $(WARN) $(LDFLAGS)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D); echo '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $@ || \
	    echo '$(subst ','\'',$(FLAGS_NOW))' > $@
FORCE:

# The filters: policy.c, over libseccomp and glibc, writes them for enter.c.
build/gen/policy: seccomp/policy.c seccomp/enter.h core/thread.h core/num.h
	$(Q)mkdir -p $(@D)
	$(Q)gcc -std=gnu17 -I. -D_GNU_SOURCE -O1 $(WARN) $(if $(WERROR),-Werror) -o $@ $< -lseccomp

build/gen/seccomp/filters.h: build/gen/policy
	$(Q)mkdir -p $(@D)
	$(Q)$< --table >$(@D)/policy.tsv
	$(Q)$< --filters >$@.tmp && mv $@.tmp $@

$(BUILD)/obj/seccomp/enter.o: build/gen/seccomp/filters.h

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE) $(CFLAGS) $(WARN) $(if $(WERROR),-Werror) $(KHEADERS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/%.o: %.S $(BUILD)/flags
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJS:.o=.d)

include tests/tests.mk
include bench/bench.mk

.PHONY: deps run kernel install clean fmt lint help
deps: ## install the Debian packages that build and tests need
	$(Q)tools/deps check

# deps must have run before the compiler is looked for, hence the second make.
run: ## boot Debian's kernel to a shell (in the lab where this host's KVM can't)
	@tools/deps run
	@$(MAKE) --no-print-directory -s QUIET=1 $(BUILD)/mayfly
	@tools/run

# Which compares by content what a build would come from with what it came from.
kernel: ## build the minimal guest kernel, in build/kernel (minutes, once)
	$(Q)tools/build-kernel

install: $(BUILD)/mayfly ## install under DESTDIR/PREFIX
	install -D -m 755 $(BUILD)/mayfly.stripped $(DESTDIR)$(PREFIX)/bin/mayfly
	install -D -m 644 docs/mayfly.1 $(DESTDIR)$(PREFIX)/share/man/man1/mayfly.1

clean: ## remove what was built (kernels and root file systems stay)
	rm -rf $(filter-out build/debian build/kernel build/rootfs,$(wildcard build/*))

C_FILES = $(shell git ls-files -co --exclude-standard '*.c' '*.h')
fmt: ## format all C
	$(Q)clang-format -i $(C_FILES)

lint: build/gen/seccomp/filters.h ## clang-format, clang-tidy, cppcheck, the include rule
	$(Q)tools/lint

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18
