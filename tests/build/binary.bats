# What the build promises of its binary (issue: one static PIE, hardened, small), read off the file
# and, for RELRO, off the running process.

setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    mayfly=build/mayfly
}

headers() { readelf -lW "$mayfly"; }

# none COMMAND PATTERN: it prints no line like that. (A bare "! cmd" would not fail the test.)
none() { [ "$($1 2>/dev/null | grep -cE "$2")" -eq 0 ]; }

@test "a position-independent executable that needs no loader and no library" {
    readelf -hW "$mayfly" | grep -q 'Type: *DYN'
    none headers INTERP
    none "readelf -dW $mayfly" NEEDED
    readelf -dW "$mayfly" | grep -q 'Flags:.*PIE'
    env -i "$PWD/$mayfly" --version | grep -q '^mayfly [0-9]'
}

@test "no segment is both writable and executable, nor is the stack" {
    none headers '(LOAD|GNU_STACK).* RWE '
    headers | grep -E 'GNU_STACK.* RW '
}

@test "relocated constants are read-only once it runs" {
    # Runs until killed: a guest that is one jump to itself.
    local guest=build/guest-tests/ends start len base at pid
    read -r start len < <(headers | awk '$1 == "GNU_RELRO" { print $3, $6 }')
    [ -n "$start" ]
    "$mayfly" run -k "$guest" -m 64M --console none --grace 0 </dev/null 2>/dev/null \
        -a end=loop --timeout 20s &
    pid=$!
    base=
    for _ in $(seq 50); do
        base=$(awk -v f="$PWD/$mayfly" '$6 == f { sub(/-.*/, "", $1); print $1; exit }' \
            "/proc/$pid/maps" 2>/dev/null) && [ -n "$base" ] && break
        sleep 0.02
    done
    at=$(printf '%x' $((0x$base + start & ~0xfff)))
    run grep -E "^0*$at-" "/proc/$pid/maps"
    kill "$pid" 2>/dev/null || :
    wait "$pid" || :
    [[ $output == *" r--p "* ]]
}

@test "functions with buffers are guarded" {
    nm "$mayfly" | grep -q __stack_chk_fail
    objdump -d --no-show-raw-insn --disassemble=log_msg "$mayfly" | grep -q '%fs:0x28'
}

@test "the stripped copy is under 300 KiB" {
    [ "$(stat -c %s "$mayfly.stripped")" -lt $((300 * 1024)) ]
    none "nm $mayfly.stripped" ' [Tt] '
}

@test "make install puts the binary and its man page where it is told" {
    local root="$BATS_TEST_TMPDIR/root"
    make -s install PREFIX=/opt/m DESTDIR="$root"
    [ -x "$root/opt/m/bin/mayfly" ]
    "$root/opt/m/bin/mayfly" --version
    [ -f "$root/opt/m/share/man/man1/mayfly.1" ]
    [ "$(find "$root" -type f | wc -l)" -eq 2 ]
}

@test "everything that is built lands in build/" {
    [ -z "$(git status --porcelain --ignored | grep -v ' build/$' | grep '^!!')" ]
}
