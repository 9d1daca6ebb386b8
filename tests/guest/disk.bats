# Disks: what a driver does to one arrives in the image, byte for byte and nowhere else, whatever way
# the host's side goes; what it must not do fails; limits hold; and what users and hosts do wrong.
#
# The image holds text by which each sector is known (disk.c). What must be in it after a guest's run
# is made here, apart from guest and monitor, and compared.
load helper

# text SECTOR COUNT TAG [TAG2]: what these sectors hold; every second one has another tag.
text() {
    awk -v s="$1" -v n="$2" -v t="$3" -v u="${4:-$3}" 'BEGIN { for (k = 0; k < n; k++)
        for (i = 0; i < 32; i++) printf "%08x %06x\n", s + k, k % 2 ? u : t }'
}

# put FILE SECTOR COUNT TAG [TAG2]: text, or with the tag "zero" zeros.
put() {
    if [ "$4" = zero ]; then
        head -c $(($3 * 512)) /dev/zero
    else
        text "${@:2}"
    fi | dd of="$1" bs=512 seek="$2" conv=notrunc status=none
}

# image FILE: 2 MiB of text with tag 0.
image() {
    [ -e "$BATS_FILE_TMPDIR/image" ] || text 0 4096 0 >"$BATS_FILE_TMPDIR/image"
    cp "$BATS_FILE_TMPDIR/image" "$1"
}

# disk WORDS OPTION...: the guest with these words on its command line judges itself.
disk() {
    guest disk -a "$1" "${@:2}"
    judged
    last "the guest powered off"
}

# expect_rw FILE: what disk.c's rw leaves.
expect_rw() {
    image "$1"
    put "$1" 8 4 1
    put "$1" 4095 1 1
    put "$1" 200 64 2
    put "$1" 1000 3 3
    put "$1" 300 16 zero
    put "$1" 400 64 zero
    put "$1" 330 1 zero
    put "$1" 350 9 zero
    put "$1" 512 128 zero
    put "$1" 700 8 zero
    put "$1" 720 8 zero
}

# strict WAY: odd buffers may be refused there.
strict() { [[ $1 != *direct* ]] || echo strict; }

# ways: what follows the path, for both engines, cached and direct where that goes.
ways() {
    ways=(io=sync io=uring)
    head -c 8192 /dev/zero >probe
    if dd if=probe of=/dev/null iflag=direct bs=4096 count=1 status=none 2>/dev/null; then
        ways+=(io=sync,direct io=uring,direct)
    else
        echo "# no O_DIRECT in $PWD: not tried" >&3
    fi
    rm -f probe
}

# --- data ---

@test "reads, writes, zeros, discards and flushes: every byte is in its place, in all ways" {
    local way
    ways
    expect_rw want
    for way in "${ways[@]}"; do
        image disk.img
        disk "what=rw flush $(strict "$way")" -d "disk.img,$way"
        cmp want disk.img
        image disk.img
        disk "what=rw event indirect flush sleep $(strict "$way")" -d "disk.img,$way"
        cmp want disk.img
    done
}

@test "a driver that knows no flush" {
    local way
    ways
    expect_rw want
    for way in "${ways[@]}"; do
        image disk.img
        disk "what=rw sleep $(strict "$way")" -d "disk.img,$way"
        cmp want disk.img
    done
}

# room FILE: KiB that it takes.
room() { du -k "$1" | cut -f 1; }

@test "a discard gives room back, and zeros keep it unless they may be unmapped" {
    truncate -s 1M holes
    fallocate -p -o 0 -l 4096 holes 2>/dev/null || skip "no holes can be punched in $PWD"
    local before after way
    for way in io=sync io=uring; do
        image disk.img
        before=$(room disk.img)
        disk "what=rw flush" -d "disk.img,$way"
        after=$(room disk.img)
        # 64 KiB are discarded and 32 KiB unmapped, on boundaries of pages; 13 KiB stay.
        echo "$before KiB, then $after KiB"
        between $((before - 120)) $((before - 96)) "$after"
    done
}

@test "128 at once, in either engine, polling and by interrupt" {
    local way words
    ways
    image want
    put want 1024 128 2 3
    for way in "${ways[@]}"; do
        for words in "" "event sleep"; do
            image disk.img
            disk "what=depth rounds=3 indirect flush $words" -d "disk.img,$way"
            says "128 at once"
            cmp want disk.img
        done
    done
    # Without indirect descriptors a request takes three: 42.
    image want
    put want 1024 42 2 3
    image disk.img
    disk "what=depth rounds=3 flush event" -d disk.img
    says "42 at once"
    cmp want disk.img
}

@test "two queues at a time" {
    local way
    image want
    put want 1024 32 2
    for way in io=sync io=uring; do
        image disk.img
        disk "what=queues queues=2 event sleep flush" -c 2 -d "disk.img,queues=2,$way"
        cmp want disk.img
    done
}

@test "resets in mid-flight lose and tear nothing, and nothing is touched behind them" {
    local way rounds=2
    [ -z "${MAYFLY_LONG:-}" ] || rounds=20
    image want
    put want 1024 128 $rounds
    for way in io=sync io=uring overlay,io=uring; do
        image disk.img
        disk "what=reset indirect flush rounds=$rounds" -d "disk.img,$way" --timeout 25s
        [[ $way == overlay* ]] || cmp want disk.img
    done
}

@test "requests that are none fail one by one, and break nothing but what they must" {
    local way
    image want
    put want 3000 16 zero
    for way in io=sync io=uring overlay,io=sync; do
        image disk.img
        disk "what=malformed flush" -d "disk.img,$way"
        # The two that the device can't answer are told of; the others are the guest's business.
        [ "$(grep -c "the guest broke it" err)" -eq 2 ]
        tells "a request has no room for its status; it waits for a reset"
        tells "a request is too short for its header; it waits for a reset"
        [ "$(wc -l <err)" -eq 3 ]
        [[ $way == overlay* ]] || cmp want disk.img
    done
}

# --- what it is ---

@test "features and configuration space" {
    image disk.img
    disk "what=config" -d disk.img
}

@test "disks in order, their sizes and names" {
    image one
    truncate -s 512 two
    truncate -s 3G three
    mkdir -p "dir,with"
    image "dir,with/comma"
    disk "what=facts" -c 4 -d one -d two,ro,id=system-root -d three,id=exactly-20-bytes-abc,queues=4 \
        -d "dir,,with/comma,overlay"
    says "disk 0: 4096 sectors, id disk0, rw, 1 queues"
    says "disk 1: 1 sectors, id system-root, ro, 1 queues"
    says "disk 2: 6291456 sectors, id exactly-20-bytes-abc, rw, 4 queues"
    says "disk 3: 4096 sectors, id disk3, rw, 1 queues"
}

@test "as many disks as there may be" {
    local i args=()
    for ((i = 0; i < 16; i++)); do
        truncate -s $((512 * (i + 1))) "d$i"
        args+=(-d "d$i")
    done
    disk "what=facts" "${args[@]}"
    for ((i = 0; i < 16; i++)); do says "disk $i: $((i + 1)) sectors, id disk$i, rw, 1 queues"; done
}

@test "a read-only disk, from a file that nobody may write" {
    local way
    for way in io=sync io=uring; do
        rm -f disk.img
        image disk.img
        chmod 400 disk.img
        disk "what=ro" -d "disk.img,ro,$way"
        disk "what=ro flush event sleep" -d "disk.img,ro,$way"
        cmp disk.img "$BATS_FILE_TMPDIR/image"
    done
}

# --- overlays ---

@test "an overlay: the guest writes as ever, the base stays, nothing is left" {
    local way before
    mkdir dir
    for way in overlay,io=sync overlay=dir,io=sync overlay,io=uring overlay=dir,io=uring; do
        image disk.img
        chmod 400 disk.img
        before=$(stat -c %y disk.img)
        disk "what=rw flush event indirect" -d "disk.img,$way"
        disk "what=depth flush indirect" -d "disk.img,$way"
        disk "what=rw sleep" -d "disk.img,$way"
        cmp disk.img "$BATS_FILE_TMPDIR/image"
        [ "$(stat -c %y disk.img)" = "$before" ]
        [ -z "$(ls -A dir)" ]
        chmod 600 disk.img
    done
}

@test "one base for two VMs at a time, each with its own writes" {
    local other
    image disk.img
    mkfifo in
    exec 8<>in
    start disk -d disk.img,overlay -a "what=sweep wait write" --timeout 20s <in
    wait_for says ready
    disk "what=tagged write tag=7 flush" -d disk.img,overlay
    disk "what=tagged tag=0" -d disk.img,ro
    echo >&8
    finish
    cat out err
    cmp disk.img "$BATS_FILE_TMPDIR/image"
    disk "what=tagged tag=0" -d disk.img,overlay
}

# --- locks ---

busy="in use by another disk, VM or program"

# taken DISK: somebody has that image.
taken() {
    guest disk -a what=facts -d "$1"
    [ "$status" -eq 125 ]
    grep -qx "mayfly: disk ${1%%,*}: $busy.*" err
}

@test "an image belongs to one VM that writes it, or to any number that read it" {
    local way
    for way in io=sync io=uring; do
        image disk.img
        start ends -a "say end=hlt" --timeout 20s --grace 0 -d "disk.img,$way"
        taken disk.img
        taken disk.img,overlay
        kill -TERM "$pid"
        finish
        # Free at once.
        disk "what=facts" -d "disk.img,$way"
        disk "what=facts" -d "disk.img,$way"
        start ends -a "say end=hlt" --timeout 20s --grace 0 -d "disk.img,ro,$way"
        disk "what=ro" -d disk.img,ro
        disk "what=facts" -d disk.img,overlay
        taken disk.img
        kill -TERM "$pid"
        finish
        rm disk.img
    done
}

@test "an image whose VM was killed can be had again" {
    local way
    for way in io=sync io=uring; do
        image disk.img
        start disk -d "disk.img,$way" -a "what=depth rounds=100000 flush indirect" --timeout 20s
        sleep 0.2
        kill -KILL "$pid"
        finish 2>/dev/null
        disk "what=tagged tag=0" -d "disk.img,$way"
        rm disk.img
    done
}

@test "the same image twice in one VM" {
    image disk.img
    ln disk.img same
    guest disk -a what=facts -d disk.img -d same
    [ "$status" -eq 125 ]
    grep -qx "mayfly: disk same: $busy.*" err
    disk "what=facts" -d disk.img,ro -d same,overlay
}

# --- limits ---

# A run of the guest `limit`, within its monitor's life, took at least as long as the limit asks
# for: what passes is at most rate * time + burst, but for the last that runs up a debt; and not
# absurdly longer.
#
# limited WORDS DISK TOTAL RATE BURST LARGEST: the latter all in bytes, or in requests.
limited() {
    local begin=$(now_ms) least=$((1000 * ($3 - $5 - $6) / $4))
    disk "what=limit flush $1" -d "$2" --timeout 25s
    echo "$3 at $4 a second, burst $5: $(($(now_ms) - begin)) ms, at least $least"
    between "$least" $((least * 3 + 5000)) $(($(now_ms) - begin))
}

@test "bw= and iops= hold, in either engine" {
    local m=$((1024 * 1024)) k=1024
    image disk.img
    limited "kib=32 count=40" disk.img,bw=1M:64K,io=sync $((1280 * k)) $m $((64 * k)) $((32 * k))
    limited "kib=16 count=80 write" disk.img,bw=1M:64K,io=uring $((1280 * k)) $m $((64 * k)) $((16 * k))
    limited "kib=4 count=80 write" disk.img,iops=80:10,io=sync 80 80 10 1
    limited "kib=4 count=80" disk.img,iops=80:10,io=uring 80 80 10 1
}

@test "flushes and names don't wait behind a limit" {
    local way
    for way in io=sync io=uring; do
        image disk.img
        disk "what=pass" -d "disk.img,bw=64K:4K,$way" # half a second of debt
    done
}

@test "a guest that ends does not wait for its limit" {
    local begin=$(now_ms)
    image disk.img
    start disk -d disk.img,bw=1,io=sync -a "what=limit count=60 write" --timeout 20s --grace 100ms
    sleep 0.3
    kill -TERM "$pid"
    finish
    [ "$status" -eq 143 ]
    between 0 5000 $(($(now_ms) - begin))
}

# --- the host's errors ---

@test "an image that is cut short under the guest" {
    local way
    mkfifo in
    exec 8<>in
    for way in io=sync io=uring; do
        rm -f disk.img
        image disk.img
        start disk -d "disk.img,$way" -a "what=sweep wait" --timeout 20s <in
        wait_for says ready
        truncate -s $((1024 * 1024)) disk.img
        echo >&8
        finish
        judged
        says "32 done, 32 failed"
        grep -qE "^mayfly: warning: disk disk.img: read at byte 1048576, 32768 left: .*I/O error" err
        # Told of five times, not 32 times.
        between 1 8 "$(grep -c "warning: disk disk.img" err)"
    done
}

@test "a full file system: the guest has I/O errors and goes on" {
    [ "$(id -u)" -eq 0 ] || skip "not root: no small file system"
    unshare -m true 2>/dev/null || skip "no name space of its own: no small file system"
    local way
    for way in io=sync io=uring; do
        image disk.img
        mkdir -p small
        echo "mount -t tmpfs -o size=1M none small && exec '$mayfly' run -k '$guests/disk' \
            --timeout 20s -a 'what=sweep write' -d disk.img,overlay=small,$way" >script
        status=0
        unshare -m sh script >out 2>err || status=$?
        judged
        grep -qaE '^(3[0-2]|2[0-9]) done, (3[2-9]) failed' out
        tells "No space left on device"
        cmp disk.img "$BATS_FILE_TMPDIR/image"
    done
}

# --- what a user does wrong ---

# refused TEXT DISK...: one line that begins so, and status 125.
refused() {
    local text=$1 args=() d
    shift
    for d in "$@"; do args+=(-d "$d"); done
    monitor run -k "$guests/hello" "${args[@]}"
    [ "$status" -eq 125 ]
    [ ! -s out ]
    [ "$(wc -l <err)" -eq 1 ]
    [[ $(cat err) == "mayfly: $text"* ]] || { echo "expected: mayfly: $text..."; return 1; }
}

@test "what is no image" {
    mkdir dir
    mkfifo fifo
    : >empty
    truncate -s 1000001 odd
    truncate -s 1M good
    ln -s nowhere dangling
    refused "disk gone: No such file or directory: " gone
    refused "disk dangling: No such file or directory: " dangling
    refused "disk dir: is a directory: give a raw image or a block device" dir
    refused "disk fifo: is a pipe: give a raw image or a block device" fifo
    refused "disk /dev/null: is a character device: give a raw image" /dev/null
    refused "disk empty: is empty: give it a size with truncate -s" empty
    refused "disk odd: size 1000001 is not a multiple of 512: pad it with truncate -s 1000448 odd" odd
    refused "disk odd: size 1000001 is not a multiple of 512" good odd,ro
    refused "overlay in gone: no private file there: No such file or directory: " good,overlay=gone
    refused "overlay in good: no private file there: Not a directory: " good,overlay=good
}

@test "a limit of files' sizes is told of before the guest runs" {
    local code=0
    truncate -s 1M base
    (ulimit -f 512 && exec "$mayfly" run -k "$guests/hello" -d base,overlay 2>err) || code=$?
    [ "$code" -eq 125 ]
    tells "1048576 bytes: File too large: name a directory on another file system with overlay=DIR,\
 or raise the limit (ulimit -f)"
}

@test "an image without the right to it" {
    [ "$(id -u)" -eq 0 ] || skip "not root: nobody's files"
    exec 5<"$mayfly"
    image disk.img
    chmod 600 disk.img
    chmod 711 "$BATS_TEST_TMPDIR"
    status=0
    setpriv --reuid=65534 --regid=65534 --clear-groups /proc/self/fd/5 run -k "$guests/hello" \
        -d "$PWD/disk.img" >out 2>err || status=$?
    [ "$status" -eq 125 ]
    [ "$(wc -l <err)" -eq 1 ]
    tells "Permission denied"
}

# All of them are in tests/unit/test_config_disk.c.
@test "keys that are none, or twice, or too many disks" {
    local i many=()
    truncate -s 1M disk
    for ((i = 0; i < 17; i++)); do many+=(disk,ro); done
    refused "option --disk: disk: unknown key \"rw\": did you mean ro?" disk,rw
    refused "option --disk: disk: io: \"fast\" is not one of auto|uring|sync" disk,io=fast
    refused "option --disk: disk: bw: \"fast\" is not a rate: " disk,bw=fast
    refused "option --disk: disk: ro: given twice: " disk,ro,ro
    refused "option --disk: disk: overlay and ro: " disk,ro,overlay
    refused "option --disk: \",ro\" begins with no path: " ,ro
    refused "option --disk: disk: queues: 2 is more than the 1 of --cpus: " disk,queues=2
    refused "option --disk: more than 16 given: " "${many[@]}"
}
