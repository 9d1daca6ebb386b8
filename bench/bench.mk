# The bench. The Makefile includes this; bench/run, which knows nothing of make's variables, calls
# it by itself (make -f bench/bench.mk bench-tools), so nothing here depends on the rest.

.PHONY: bench bench-ab bench-tools
bench: ## measure Mayfly and its peers: ROWS=boot,mem ROUNDS=7 PEER_FIRECRACKER=path ...
	@tools/deps check
	@$(MAKE) --no-print-directory -s QUIET=1 all
	@bench/run $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-ab: ## measure two revisions of ours: A=rev B=rev ROWS=exec,starts
	@tools/deps check
	@bench/run --ab $(A) $(B) $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS))

BENCH     := build/bench/bin
BENCH_CC  := musl-gcc -static -std=gnu17 -O2 -g -Wall -Wextra -Wshadow -Werror -I. -D_GNU_SOURCE \
             -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
BENCH_ASM := gcc -nostdlib -static -no-pie -I. -Wl,-z,noexecstack,--build-id=none -T bench/guest.ld

bench-tools: $(addprefix $(BENCH)/,floor launch init disk net guest guest-wait)

$(BENCH)/%: bench/%.c bench/mark.h bench/bench.mk
	@mkdir -p $(@D)
	@$(BENCH_CC) -o $@ $<

$(BENCH)/guest $(BENCH)/guest-wait: bench/guest.S bench/mark.h bench/guest.ld bench/bench.mk
	@mkdir -p $(@D)
	@$(BENCH_ASM) $(if $(findstring wait,$@),-DWAIT) -o $@ $<
