# The bench itself: what it says of known samples, that a short run measures, that two builds of the
# same thing do not differ, and that nothing is left behind.
bats_require_minimum_version 1.5.0

setup() {
  cd "$BATS_TEST_DIRNAME/.."
  tmp=$BATS_TEST_TMPDIR
  run=(bench/run --out "$tmp/result.json")
}

# json EXPRESSION: its value, d being the result. Whatever is no JSON fails.
json() {
  /usr/bin/python3 -c "import json, sys; d = json.load(open(sys.argv[1])); print($1)" "$tmp/result.json"
}

# module EXPRESSION: its value, with the bench's modules.
module() {
  /usr/bin/python3 -B -c "import sys; sys.path.insert(0, 'bench')
import nets, patterns, peers, rows, size, stats, trace
S = lambda values: stats.summary([stats.Sample('row', 'peer', 'metric', v, 'ms') for v in values])
print($1)"
}

same() { [[ $1 == "$2" ]] || { echo "'$1', not '$2'"; false; }; }

need_kvm() { [[ -w /dev/kvm ]] || skip "no /dev/kvm here"; }

# of the run with this process id
left_behind() {
  ls -d "/dev/shm/mayfly-bench.$1".* "/sys/kernel/tracing/instances/mayfly-bench-$1" 2>/dev/null
  pgrep -af "/dev/shm/mayfly-bench.$1[.]" || :
}

@test "statistics: the first sample is discarded; median and range of the rest" {
  same "$(module 'tuple(S([99, 3, 1, 2]))')" "(3, 2, 1, 3, 'ms')"
  same "$(module 'tuple(S([99, 4, 1, 2, 3]))')" "(4, 2.5, 1, 4, 'ms')"
  same "$(module 'tuple(S([7]))')" "(1, 7, 7, 7, 'ms')"
}

@test "statistics: a ratio where the ranges do not touch, and none where they do" {
  same "$(module 'stats.ratio(S([0, 20, 22]), S([0, 10, 11]))')" 2.0
  same "$(module 'stats.ratio(S([0, 10, 11]), S([0, 20, 22]))')" 0.5
  same "$(module 'stats.ratio(S([0, 10, 12]), S([0, 11, 13]))')" None
  same "$(module 'stats.ratio(S([0, 10, 11]), S([0, 11, 13]))')" None
  same "$(module 'stats.ratio(S([0, 11, 13]), S([0, 10, 11]))')" None
  same "$(module 'stats.ratio(S([0, 1, 30]), S([0, 10, 11]))')" None
  same "$(module 'stats.differ(S([0, 3, 3]), S([0, 0, 0])), stats.ratio(S([0, 3]), S([0, 0]))')" "True None"
}

@test "statistics: a sample is a line, and back" {
  local line="exec mayfly run 1.25 ms"
  same "$(module "stats.parse('$line')")" "$line"
}

@test "traces: marks, the first entry, exits up to the mark" {
  cat >"$tmp/events" <<'END'
[(10, "kvm_entry", "vcpu 0"), (20, "kvm_exit", "vcpu 0 reason EXIT_CPUID rip 0x1"),
 (30, "kvm_cpuid", "func 4d617966 idx 2 rax 0"), (35, "kvm_cpuid", "func 1 idx 1 rax 0"),
 (40, "kvm_exit", "reason npf rip 0x2"), (50, "kvm_cpuid", "func 4d617966 idx 2 rax 0")]
END
  local events="eval(open('$tmp/events').read())"
  same "$(module "trace.marks($events)")" "{2: 30}"
  same "$(module "trace.first_run($events)")" 10
  same "$(module "rows.count_exits($events, 2)")" "{'cpuid': 1}"
}

@test "traces: whose time is the host's, between the marks of a pattern" {
  cat >"$tmp/trace" <<'END'
           vcpu0-7       (     5) [000] .....     1.000000: kvm_cpuid: func 4d617966 idx 10 rax 0
           vcpu0-7       (     5) [000] d....     1.000010: kvm_entry: vcpu 0, rip 0x1
           vcpu0-7       (     5) [000] d....     1.000030: kvm_exit: reason EXIT_NPF rip 0x1
           vcpu0-7       (     5) [000] .....     1.000031: sys_enter: NR 16 (b, 0)
           vcpu0-7       (     5) [000] d....     1.000035: sched_switch: prev_comm=vcpu0 prev_pid=7
        I/O a-b-8        (     5) [000] .....     1.000037: sys_enter: NR 426 (3, 1)
        I/O a-b-8        (     5) [000] d....     1.000047: sched_switch: prev_comm=I/O a-b prev_pid=8
          <idle>-0       (-------) [000] d....     1.000060: sched_switch: prev_comm=swapper/0
     kworker/0:1-9       (     9) [000] d....     1.000064: sched_switch: prev_comm=kworker/0:1
          python-3       (     3) [000] .....     1.000066: sys_enter: NR 0 (3, 1)
          python-3       (     3) [000] d....     1.000069: sched_switch: prev_comm=python
           vcpu0-7       (     5) [000] d....     1.000070: kvm_entry: vcpu 0, rip 0x1
           vcpu0-7       (     5) [000] d....     1.000080: kvm_exit: reason EXIT_CPUID rip 0x1
           vcpu0-7       (     5) [000] .....     1.000081: kvm_cpuid: func 4d617966 idx 11 rax 0
           vcpu0-7       (     5) [000] .....     1.000082: sys_enter: NR 16 (b, 0)
END
  local events="patterns.spans([trace.task(line) for line in open('$tmp/trace')])"
  same "$(module "{i: len(e) for i, e in $events.items()}")" "{0: 14}"
  # 10 before the guest, 5 after it, 12 of the other thread, 4 of the worker, 1 + 1 around the guest.
  same "$(module "patterns.shares($events[0], 5)")" "(81000, 33000)"
  same "$(module "dict(patterns.calls($events[0], 5))")" "{16: 1, 426: 1}"
}

@test "traces: what the far end of a tap takes is not the host's part" {
  cat >"$tmp/trace" <<'END'
           vcpu0-7       (     5) [000] .....     1.000000: kvm_cpuid: func 4d617966 idx 10 rax 0
           vcpu0-7       (     5) [000] d....     1.000005: sched_switch: prev_comm=vcpu0 prev_pid=7
             net0-8      (     5) [000] .....     1.000009: netif_receive_skb: dev=bench0 skbaddr=1 len=92
             net0-8      (     5) [000] .....     1.000029: netif_receive_skb_exit: ret=0
             net0-8      (     5) [000] d....     1.000032: sched_switch: prev_comm=net0 prev_pid=8
              net-9      (     9) [000] .....     1.000035: netif_receive_skb: dev=lo skbaddr=1 len=92
              net-9      (     9) [000] d....     1.000042: sched_switch: prev_comm=net prev_pid=9
          vhost-5-6      (     6) [000] d....     1.000049: sched_switch: prev_comm=vhost-5 prev_pid=6
           vcpu0-7       (     5) [000] .....     1.000050: kvm_cpuid: func 4d617966 idx 11 rax 0
END
  local events="patterns.spans([trace.task(line) for line in open('$tmp/trace')])"
  # 5 of the vCPU outside the guest, 4 and 3 around the far end, 7 of vhost, 1 of the vCPU.
  same "$(module "patterns.shares($events[0], 5)")" "(50000, 20000)"
}

@test "patterns: a guest that stands still is begun anew, some times" {
  cat >"$tmp/try.py" <<'END'
import sys
sys.path.insert(0, "bench")
import patterns, peers

class Bench:
    out = staticmethod(print)
    said = staticmethod(lambda: "")

patterns.run_once = lambda *_: {"status": "124"}
try:
    patterns.traced(Bench(), None, peers.Peer("ours", None), ["x"], {})
except peers.Failed as e:
    print(e)
END
  /usr/bin/python3 -B "$tmp/try.py" >"$tmp/out"
  same "$(grep -c 'ours: a guest with patterns stood still' "$tmp/out")" 4
  grep -q '^it ended with status 124' "$tmp/out"
}

@test "disks: every peer is told of one, or says why not" {
  local guest="peers.Guest('k', 'i', disk=peers.Disk('/dev/null', direct=True))"
  module "[a for p in peers.load('qemu') for a in p.argv($guest)]" |
    grep -q "filename=/dev/null.*cache.direct=on"
  # Of the class: without a build that was copied for the bench there is no peer yet.
  module "__import__('peers.mayfly').mayfly.Mayfly('m', 'mayfly', engine='sync').argv($guest)" |
    grep -q "/dev/null,direct,io=sync"
  for name in floor firecracker kvmtool cloud_hypervisor; do
    same "$(/usr/bin/python3 -B -c "import sys; sys.path.insert(0, 'bench')
import peers
try:
    peers.load('$name')[0].argv($guest)
except peers.Absent:
    print('absent')")" absent
  done
}

@test "networks: every peer is told of one, or says why not" {
  local guest="peers.Guest('k', 'i', net=peers.Net('tap7', '52:54:00:12:34:56', vhost=True))"
  module "[a for p in peers.load('qemu') for a in p.argv($guest)]" |
    grep "ifname=tap7,.*vhost=on" | grep -q "virtio-net-device,netdev=net,mac=52:54:00:12:34:56"
  module "__import__('peers.mayfly').mayfly.Mayfly('m', 'mayfly').argv($guest)" |
    grep -q "tap=tap7,mac=52:54:00:12:34:56,vhost=on"
  for name in floor firecracker kvmtool cloud_hypervisor; do
    same "$(/usr/bin/python3 -B -c "import sys; sys.path.insert(0, 'bench')
import peers
try:
    peers.load('$name')[0].argv($guest)
except peers.Absent:
    print('absent')")" absent
  done
}

@test "networks: a run has one of its own, and leaves it" {
  unshare -n true 2>/dev/null || skip "no network of its own may be made here"
  [[ -c /dev/net/tun ]] || skip "no /dev/net/tun here"
  make -s --no-print-directory -f bench/bench.mk bench-tools
  cat >"$tmp/try.py" <<'END'
import os, sys
sys.path.insert(0, "bench")
import nets

class Bench:
    path = staticmethod(lambda name: f"build/bench/bin/{name}")

def links():
    with open("/proc/thread-self/net/dev") as f:
        return sorted(line.split(":")[0].strip() for line in f if ":" in line)

before = os.readlink("/proc/thread-self/ns/net")
with nets.far_end(Bench()):
    print(nets.TAP in links(), os.readlink("/proc/thread-self/ns/net") != before)
print(nets.TAP in links(), os.readlink("/proc/thread-self/ns/net") == before)
END
  same "$(/usr/bin/python3 -B "$tmp/try.py")" "True True
False True"
}

@test "sizes: by room, from a linker's map" {
  cat >"$tmp/map" <<'END'
Discarded input sections
 .text.gone     0x0000000000000000      0x999 build/obj/core/a.o
Linker script and memory map
.text           0x0000000000001000      0x130
 .text.one      0x0000000000001000       0x20 build/obj/core/a.o
 .text.a_rather_long_name
                0x0000000000001020       0x10 build/obj/vmm.o
 *fill*         0x0000000000001030        0x8
 .text          0x0000000000001038      0x100 /usr/lib/x86_64-linux-musl/libc.a(puts.lo)
.bss            0x0000000000002000       0x40
 .bss           0x0000000000002000       0x40 build/obj/core/a.o
.debug_info     0x0000000000000000       0x40
 .debug_info    0x0000000000000000       0x40 build/obj/core/a.o
END
  same "$(module "size.parse_map(open('$tmp/map').read())")" "{'core': 32, 'main': 16, 'libc': 256}"
}

@test "a short run: every peer's samples, valid JSON, absent peers named" {
  need_kvm
  PEER_FIRECRACKER=/nowhere "${run[@]}" --rows exec,size --rounds 1 \
    --peers mayfly,floor,firecracker >"$tmp/out"
  same "$(json 'sorted({s[1] for s in d["samples"] if s[0] == "exec"})')" "['floor', 'mayfly']"
  # Two rounds, one of them discarded.
  same "$(json '{(len([s for s in d["samples"] if s[:3] == [r["row"], p, r["metric"]]]), v["n"])
    for r in d["rows"] if r["row"] == "exec" for p, v in r["peers"].items()}')" "{(2, 1)}"
  same "$(json 'all(v["median"] > 0 for r in d["rows"] for v in r["peers"].values())')" True
  same "$(json '{"core", "kvm", "libc"} <= {r["metric"] for r in d["rows"] if r["row"] == "size"}')" True
  grep -q '^absent: firecracker: PEER_FIRECRACKER=/nowhere can.t be executed$' "$tmp/out"
  grep -qE '^exec +[a-z]+ +ms +mayfly ' "$tmp/out"
}

@test "without trace events the guest's first byte is what is timed" {
  need_kvm
  "${run[@]}" --rows exec --rounds 1 --peers mayfly,floor --no-trace >"$tmp/out"
  same "$(json '[(r["metric"], sorted(r["peers"])) for r in d["rows"]]')" \
    "[('byte', ['floor', 'mayfly']), ('end', ['floor', 'mayfly'])]"
  grep -q -- '--no-trace' "$tmp/out"
}

# Seven samples and seven of the same kind lie apart once in 1,716 times by chance alone, so a second
# run may answer: a bias would show in both.
@test "the same build twice: no difference" {
  need_kvm
  local differing
  for _ in 1 2; do
    "${run[@]}" --ab here here --rows exec >/dev/null
    same "$(json 'sorted({s[1] for s in d["samples"]})')" "['A', 'B']"
    differing=$(json '[(r["metric"], r["peers"]["B"]) for r in d["rows"] if r["peers"]["B"]["differs"]]')
    [ "$differing" != "[]" ] || break
  done
  same "$differing" "[]"
}

@test "a peer by its path: its configuration is what it can read" {
  need_kvm
  cat >"$tmp/firecracker" <<'END'
#!/bin/bash
[[ $1 == --version ]] && { echo "Firecracker v0"; exit; }
[[ $1 == --no-api && $2 == --config-file ]] || exit 9
exec build/bench/bin/floor $(/usr/bin/python3 -c '
import json, sys
c = json.load(open(sys.argv[1]))
print(c["machine-config"]["mem_size_mib"], c["boot-source"]["kernel_image_path"])' "$3")
END
  chmod +x "$tmp/firecracker"
  PEER_FIRECRACKER=$tmp/firecracker "${run[@]}" --rows exec --rounds 1 \
    --peers mayfly,firecracker >"$tmp/out"
  same "$(json '[p["version"] for p in d["peers"]][1]')" "Firecracker v0"
  same "$(json '{len(r["peers"]) for r in d["rows"]}')" "{2}"
}

@test "a peer that fails is left out, with what it said" {
  need_kvm
  printf '#!/bin/sh\necho no luck >&2\nexit 3\n' >"$tmp/firecracker"
  chmod +x "$tmp/firecracker"
  PEER_FIRECRACKER=$tmp/firecracker "${run[@]}" --rows exec --rounds 1 \
    --peers mayfly,firecracker >"$tmp/out"
  grep -q '^absent: firecracker, row exec: it ended with status 3: no luck$' "$tmp/out"
  same "$(json '{s[1] for s in d["samples"]}')" "{'mayfly'}"
}

@test "stopped in the middle, it leaves no process, no trace and no file" {
  need_kvm
  for sig in INT TERM; do
    bench/run --rows mem --rounds 500 --peers mayfly,floor --out "$tmp/none.json" >/dev/null 3>&- &
    pid=$!
    for _ in $(seq 100); do
      pgrep -f "/dev/shm/mayfly-bench.$pid[.]" >/dev/null && break
      sleep 0.1
    done
    [ -n "$(left_behind "$pid")" ]
    kill -"$sig" "$pid"
    status=0
    wait "$pid" || status=$?
    ((status == 130 || status == 143)) || { echo "status $status"; false; }
    same "$(left_behind "$pid")" ""
    [ ! -e "$tmp/none.json" ]
  done
}

@test "wrong options are refused" {
  for wrong in "--rows boat" "--nonsense" "--rounds x" "--peers nobody"; do
    status=0
    # shellcheck disable=SC2086
    bench/run $wrong >/dev/null 2>"$tmp/err" || status=$?
    same "$status" 125
    [ -s "$tmp/err" ]
  done
}
