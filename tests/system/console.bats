#!/usr/bin/env bats
# The console in every mode. No byte is lost, either way, but those that a reader who stopped made
# us drop, and these are counted.

load lib.bash

STALL=60 # seconds that a reader stops

# The stopped reader's minute passes while the other tests of this file run.
setup_file() {
  local cmd
  tmp=$BATS_FILE_TMPDIR kernel=$vmlinux
  guest stall <<EOF
stty raw
echo started
read -r t0 _ </proc/uptime
noise 3145728 5
read -r t1 _ </proc/uptime
echo
echo "noise: from \$t0 to \$t1"
i=0
while [ \$i -lt $STALL ]; do
  sleep 1
  i=\$((i + 1))
  read -r t _ </proc/uptime
  echo "tick: \$i at \$t"
done
echo finished
EOF
  command stall --timeout 5m --grace 30s
  mkfifo "$tmp/pipe"
  {
    "${cmd[@]}" >"$tmp/pipe" 2>"$tmp/stall.err"
    echo "$?" >"$tmp/stall.status"
  } </dev/null 3>&- &
  writer=$!
  {
    head -c 8
    nap "$STALL"
    cat
  } <"$tmp/pipe" >"$tmp/stall.out" 2>/dev/null 3>&- &
  echo "$writer $!" >"$tmp/stall.pids"
}

# When the last test was not asked for it is still there.
teardown_file() {
  local writer reader
  read -r writer reader <"$BATS_FILE_TMPDIR/stall.pids"
  pkill -KILL -P "$writer" -f "$BATS_FILE_TMPDIR" || :
  kill "$reader" 2>/dev/null || :
}

@test "console: input that comes early and its end are not lost; output is exact" {
  guest lines <<'EOF'
stty -echo
echo; echo begin # behind what was echoed before
while read -r line; do echo "<$line>"; done
echo end
EOF
  command lines
  seq 1 300 >"$tmp/in"
  status=0
  "${cmd[@]}" <"$tmp/in" 2>"$tmp/lines.err" 3>&- | cat >"$tmp/lines.out" || status=$?
  echo "${PIPESTATUS[0]}" >"$tmp/lines.status"
  ended lines 0 "$OFF"
  { echo begin; seq -f '<%g>' 1 300; echo end; } >"$tmp/want"
  sed -n '/^begin$/,$p' "$tmp/lines.out" | diff "$tmp/want" -
}

@test "console: a guest that says nothing gets its input all the same" {
  guest mute <<'EOF'
read -r line
echo "<$line>" >/dev/kmsg
[ "$line" = "off you go" ] && reboot -f
EOF
  command mute
  status=0
  echo "off you go" | "${cmd[@]}" >"$tmp/mute.out" 2>"$tmp/mute.err" 3>&- || status=$?
  echo "$status" >"$tmp/mute.status"
  ended mute 0 "$REBOOTED"
}

@test "console: 1 MiB arrives byte for byte, through a pipe and in file:PATH" {
  for name in pipe file; do
    guest "$name" <<'EOF'
stty raw
noise 1048576 7
EOF
  done
  piped() {
    local cmd
    command pipe
    "${cmd[@]}" </dev/null 2>"$tmp/pipe.err" 3>&- | cat >"$tmp/pipe.out"
    echo "${PIPESTATUS[0]}" >"$tmp/pipe.status"
  }
  echo "what was there before goes" >"$tmp/console"
  piped & boot file --console "file:$tmp/console"
  wait
  ended pipe 0 "$OFF"
  ended file 0 "$OFF"
  parting "$tmp/console"
  "$noise" 1048576 7 | cmp - "$tmp/pipe.out"
  "$noise" 1048576 7 | cmp - "$tmp/console"
  [ ! -s "$tmp/file.out" ]
}

@test "console: none, and standard streams that are closed: the guest lives all the same" {
  for name in none closed; do
    guest "$name" <<'EOF'
echo into the void
stty size
EOF
  done
  closed() {
    local cmd status=0
    command closed
    "${cmd[@]}" <&- >&- 2>"$tmp/closed.err" 3>&- || status=$?
    echo "$status" >"$tmp/closed.status"
    : >"$tmp/closed.out"
  }
  boot none --console none & closed
  wait
  ended none 0 "$OFF"
  ended closed 0 "$OFF"
  [ ! -s "$tmp/none.out" ]
}

# The guest takes 100 KiB in raw mode and says what it got. All bytes of all values arrive, but
# Linux takes Ctrl-O and the byte behind it on its console as SysRq, unless that is another Ctrl-O:
# so each is sent as two, as a person would have to.
takes_100k() {
  guest "$1" <<'EOF'
stty -echo
echo "here"
read -r line
echo "line: $line"
# A pty's size is asked for as input comes; Linux sets it a moment after it was told.
i=0
until [ $i = 20 ] || [ "$line" = "by pipe" ] || [ "$(stty size 2>&1)" = "41 92" ]; do
  usleep 200000
  i=$((i + 1))
done
echo "size: $(stty size 2>&1)"
stty raw
echo "ready for it"
echo "sum: $(head -c 102400 | md5sum)"
EOF
  head -c 102400 /dev/urandom >"$tmp/random"
  LC_ALL=C sed 's/\x0f/&&/g' "$tmp/random" >"$tmp/typed"
}

@test "console: 100 KiB sent in raw mode arrive whole, by pipe" {
  takes_100k pipe
  start pipe
  echo "by pipe" >&"$in"
  until_true 60 seen pipe "ready for it"
  cat "$tmp/typed" >&"$in"
  finish pipe
  ended pipe 0 "$OFF"
  same "$(value pipe line)" "by pipe" "line that the guest read"
  same "$(value pipe sum)" "$(md5sum <"$tmp/random")" "checksum of what arrived"
}

@test "console: a pty: a talk, its size, and 100 KiB in raw mode" {
  takes_100k pty
  start pty --console pty
  until_true 60 grep -q . "$tmp/pty.err"
  path=$(sed -n '1s/^mayfly: console: //p' "$tmp/pty.err")
  matches "$path" '^/dev/pts/[0-9]+$' "path of the pty"
  cat "$path" >"$tmp/pty.out" 3>&- &
  reader=$!
  until_true 60 seen pty here
  stty rows 41 cols 92 <"$path"
  echo "a line" >"$path"
  until_true 60 seen pty "ready for it"
  cat "$tmp/typed" >"$path"
  finish pty
  wait "$reader" || true # mayfly's end hangs the terminal up
  ended_after pty 0 "$OFF"
  same "$(wc -l <"$tmp/pty.err")" 2 "lines on standard error"
  same "$(value pty line)" "a line" "line that the guest read"
  same "$(value pty size)" "41 92" size
  same "$(value pty sum)" "$(md5sum <"$tmp/random")" "checksum of what arrived"
}

# What a person at a terminal does; \r is the Enter key. Words that are waited for are written so
# that the echo of the command does not show them.
type_keys() {
  local out=$tmp/term.out
  on() { until_true 60 grep -qF -- "$1" "$out"; }
  : >"$out"
  on 'guest# ' && printf 'stty size\r'
  on '33 101' && printf 'sh -c '\''trap "stty size" WINCH; echo wat""ching; while sleep 0.2; do :; done'\''\r'
  on watching && touch "$tmp/resize"
  on '44 102' && printf '\003'
  printf 'echo "rc""1 $?"\r'
  on rc1 && printf '(echo slee""ping; exec sleep 1000)\r'
  on sleeping && sleep 0.3 && printf '\003'
  printf 'echo "rc""2 $?"\r'
  on rc2 && printf '(echo cop""ying; exec cat)\r'
  on copying && printf 'twice\r'
  sleep 0.3 && printf '\004'
  printf 'echo "rc""3 $?"\r'
  on rc3 && printf 'exit\r'
  on 'status '
}

@test "console: a terminal: size, resize, Ctrl-C, Ctrl-D; it is left as it was" {
  type script >/dev/null || skip "no script(1) here"
  command term --timeout 100s
  cat >"$tmp/session" <<EOF
stty rows 33 cols 101
before=\$(stty -g)
terminal=\$(tty)
(until [ -e "$tmp/resize" ]; do sleep 0.1; done; stty rows 44 cols 102 <"\$terminal") &
$(printf '%q ' "${cmd[@]}") 2>"$tmp/term.err"
echo "status \$?"
[ "\$(stty -g)" = "\$before" ] && echo restored
EOF
  type_keys | timeout 120 script -qfec "bash $tmp/session" "$tmp/term.out" >/dev/null 3>&-
  tr -d '\r' <"$tmp/term.out" >"$tmp/seen"
  cat -v "$tmp/seen" "$tmp/term.err"
  for want in '33 101' '44 102' 'rc1 130' 'rc2 130' 'rc3 0' 'status 0' restored; do
    grep -qF "$want" "$tmp/seen" || fail "missing: $want"
  done
  same "$(grep -c '^twice$' "$tmp/seen")" 2 "lines of cat, typed and printed"
}

# Last: its minute began with the file.
@test "console: a reader stops for a minute: the guest works on, the dropped bytes are counted" {
  local dir=$BATS_FILE_TMPDIR
  tmp=$dir
  until_true 200 [ -s "$dir/stall.status" ]
  ended stall 0 "$OFF"
  # What the guest wrote in all: known to the end of the noise, and what follows was not dropped.
  tail=$(grep -abo '^noise: from' "$dir/stall.out" | cut -d: -f1)
  { echo started; "$noise" 3145728 5; tail -c "+$tail" "$dir/stall.out"; } >"$dir/all"
  # One notice, and the true number in it.
  grep -aboE '\[[0-9]+ bytes dropped\]' "$dir/stall.out" >"$dir/notices"
  cat "$dir/notices"
  same "$(wc -l <"$dir/notices")" 1 "notices"
  IFS=: read -r at notice <"$dir/notices"
  n=${notice//[^0-9]/}
  before=$((at - 2)) after=$((at + ${#notice} + 2)) # in lines of its own: \r\n on either side
  size=$(stat -c %s "$dir/stall.out") all=$(stat -c %s "$dir/all")
  same "$n" "$((all - before - (size - after)))" "bytes dropped"
  cmp -n "$before" "$dir/all" "$dir/stall.out"
  cmp -i "$((all - (size - after))):$after" "$dir/all" "$dir/stall.out"
  # The guest was not held up: writing took seconds of the minute, and no tick came late.
  read -r _ t0 _ t1 <<<"$(value stall noise)"
  say "3 MiB into a console without a reader took from $t0 to $t1 s of the guest's clock"
  awk -v a="$t0" -v b="$t1" 'BEGIN { exit !(b - a < 30) }' || fail "3 MiB took from $t0 to $t1 s"
  same "$(grep -ac '^tick: ' "$dir/stall.out")" "$STALL" ticks
  awk '/^tick: / { if (last && $4 - last > 5) exit 1; last = $4 }' "$dir/stall.out" ||
    fail "a tick came late"
}
