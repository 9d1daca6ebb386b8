#!/usr/bin/env bats
# What a running guest costs the host, and what is left when it is gone.

load lib.bash

RAM=128 # MiB

# own_kib PID: private memory beside the guest's, which is the one mapping of exactly its size.
own_kib() {
  awk -v ram=$((RAM * 1024)) '
    $1 == "Size:" { mine = $2 != ram }
    mine && /^Private_/ { sum += $2 }
    END { print sum }' "/proc/$1/smaps"
}

@test "host: under 1 MiB beside the guest's memory; pidfile, ready byte, threads, no trace after" {
  guest idle <<'EOF'
stty raw
noise 262144 3
echo
echo idle
read -r line
EOF
  mkfifo "$tmp/ready"
  exec {ready}<>"$tmp/ready"
  start idle --memory ${RAM}M --cpus 2 --pidfile "$tmp/pid" --ready-fd "$ready"
  read -r -n 1 -t 60 byte <&"$ready"
  same "$byte" R "byte on --ready-fd"
  same "$(cat "$tmp/pid")" "$pid" pidfile
  until_true 60 grep -qa '^idle' "$tmp/idle.out"
  same "$(cat /proc/"$pid"/task/*/comm | sort | xargs)" "console mayfly vcpu0 vcpu1" threads
  own=$(own_kib "$pid")
  rss=$(awk '$1 == "Rss:" { print $2 }' "/proc/$pid/smaps_rollup")
  say "beside the guest's $RAM MiB: $own KiB private; resident in all: $((rss / 1024)) MiB"
  ((own > 0 && own < 1024)) || fail "$own KiB of private memory"
  echo >&"$in"
  finish idle
  ended idle 0 "$OFF"
  [ ! -e "$tmp/pid" ]
  leftovers
  same "${left[*]}" "" "processes that are left"
}
