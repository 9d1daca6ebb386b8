# For tests of disks; behind lib.bash. Their guests have no initrd but a root file system on /dev/vda
# (diskimages), and the script that `guest` takes comes on the last disk, named "test". Between the
# two are the disks of the test, from vdb on:
#
#   guest NAME <<'EOF'            as in lib.bash
#   boot NAME -d PATH...          as in lib.bash
#
# The kernel is the minimal one, the root read-only and one image for all; $rootopts is what else the
# disk /dev/vda is given, $words what else the command line says.

vmlinux=$root/build/kernel/vmlinux
rootdisk=$root/build/system/root.ext4
rootopts=,ro
words=ro
bin=$root/build/system
PATH=$PATH:/usr/sbin:/sbin

guest() {
  local text pad
  IFS= read -r -d '' text || :
  # Newlines to a whole number of sectors: it is read to its end.
  printf -v pad '%*s' $((512 - ${#text} % 512)) ''
  printf '%s%s' "$text" "${pad// /$'\n'}" >"$tmp/$1.disk"
}

command() {
  local name=$1
  shift
  cmd=("$mayfly" run --kernel "$kernel" --cmdline "$timers quiet root=/dev/vda $words")
  cmd+=(-d "$rootdisk$rootopts")
  [[ " $* " == *" --timeout "* ]] || cmd+=(--timeout 150s)
  cmd+=("$@" -d "$tmp/$name.disk,ro,id=test")
}

# begin NAME [OPTION...], tell NAME LINE, end NAME: as start and finish, for several at once. begin
# waits for the word "up": two that boot at once on the lab's one processor take four times as long.
declare -gA pids ins
begin() {
  start "$@"
  pids[$1]=$pid
  ins[$1]=$in
  until_true 100 seen "$1" up || { cat "$tmp/$1.out" "$tmp/$1.err"; false; }
}
tell() { echo "$2" >&"${ins[$1]}"; }
end() {
  pid=${pids[$1]} in=${ins[$1]}
  finish "$1"
}

# As in lib.bash, without a process: in the lab one costs 50 ms, three times that beside a guest that
# waits, and these are called again and again.
parting() {
  local text
  IFS= read -r -d '' text <"$1" || :
  if [[ $text =~ \[\ *[0-9]+\.[0-9]+\]\ reboot:\ [A-Za-z\ ]+.?$ ]]; then
    printf %s "${text%\[*}" >"$1"
  fi
}
seen() {
  local text
  IFS= read -r -d '' text <"$tmp/$1.out" || :
  [[ $text == *"$2"* ]]
}

# blocks PATH: KiB that a file takes on the host.
blocks() { echo $(($(stat -L -c '%b * %B' "$1") / 1024)); }

# An ext4 of 16 MiB at $1 for guest/records.c.
records_image() {
  mkdir -p "$tmp/records/files"
  head -c $((512 * 4096)) /dev/zero | tr '\0' '\377' >"$tmp/records/slots"
  mke2fs -q -t ext4 -b 4096 -J size=4 -N 256 -d "$tmp/records" "$1" 16M >/dev/null
}

# acked FILE: the last record that the guest's console acknowledges.
acked() { sed -n 's/^ack \([0-9]*\).*/\1/p' "$1" | tail -n 1; }

# Device mapper in the lab, or wherever we are root. Where nobody listens to the kernel's events
# dmsetup has to make its nodes by itself.
dm_unable() {
  [ "$(id -u)" = 0 ] || { echo "device mapper needs root"; return; }
  type dmsetup losetup >/dev/null 2>&1 || { echo "no dmsetup or losetup here"; return; }
  modprobe -a loop dm-mod "$@" 2>/dev/null || { echo "this kernel has not all of: dm-mod $*"; return; }
}
[ -S /run/udev/control ] || export DM_DISABLE_UDEV=1

# dm NAME TABLE: makes a device; gone with the test.
dm() {
  dmsetup create "$1" --table "$2"
  echo "$1" >>"$tmp/dm"
}
# loop PATH: sets loop to a loop device on it; gone with the test.
loop() {
  loop=$(losetup -f --show "$1")
  echo "$loop" >>"$tmp/loops"
}
teardown() {
  local left name
  leftovers
  [ ${#left[@]} = 0 ] || { echo "still there: ${left[*]}"; kill -9 "${left[@]}"; }
  dm_clear
  [ ${#left[@]} = 0 ]
}
dm_clear() {
  local name
  [ ! -e "$tmp/dm" ] || while read -r name; do
    # A killed monitor's last close may take a moment.
    until_true 10 dmsetup remove "$name"
  done < <(tac "$tmp/dm")
  [ ! -e "$tmp/loops" ] || while read -r name; do losetup -d "$name"; done <"$tmp/loops"
  rm -f "$tmp/dm" "$tmp/loops"
}
