# What is typed or piped reaches the guest, whole and once.
load helper

# took FILE: the guest told of just these bytes.
took() {
    [ "$status" -eq 0 ]
    says "$(stat -c %s "$1") bytes, checksum $(checksum <"$1")"
}

# Text: no byte of it is Ctrl-D.
some_text() { head -c "$1" /dev/urandom | base64 -w 0 | head -c "$1"; }

@test "100 KiB from a pipe arrive whole though the guest is slow" {
    some_text 102400 >sent
    cat sent | guest input
    took sent
}

@test "the same in large buffers, with a guest in no hurry" {
    some_text 102400 >sent
    cat sent | guest input -a "size=4000 pause=5000"
    took sent
}

@test "one byte at a time" {
    some_text 2000 >sent
    cat sent | guest input -a "size=1 pause=0"
    took sent
}

@test "none is lost when the driver resets the device" {
    some_text 20000 >sent
    cat sent | guest input -a "reset=7 pause=0"
    took sent
}

@test "a writer that pauses" {
    { printf one; sleep 0.3; printf two; sleep 0.3; printf three; } | guest input
    printf onetwothree >sent
    took sent
}

@test "every byte but Ctrl-D is passed on as it is" {
    every_byte | tr -d '\004' >sent
    cat sent | guest input
    took sent
}

@test "what is typed before there is a driver waits for it" {
    printf 'early bird' >sent
    cat sent | guest input -a late=100000
    took sent
}

@test "the end of a pipe is one Ctrl-D, and no more than one" {
    printf abc | guest input -a "show after" --timeout 1s
    [ "$status" -eq 124 ]
    [ "$(tr -cd '\004' <out | wc -c)" -eq 1 ]
    ! grep -a BAD out || false
}

@test "a regular file, from where it stands, and /dev/null" {
    some_text 10000 >sent
    guest input <sent
    took sent
    exec 7<sent
    read -r -N 100 <&7
    guest input <&7
    tail -c +101 sent >rest
    took rest
    : >none
    guest input </dev/null
    took none
}

@test "a closed standard input is no input, and no end of it" {
    guest input --timeout 700ms <&-
    [ "$status" -eq 124 ]
    [ ! -s out ]
}

@test "--console none and file: take no input" {
    printf abc | guest input --console none --timeout 500ms
    [ "$status" -eq 124 ]
    printf abc | guest input --console file:log --timeout 500ms
    [ "$status" -eq 124 ]
    [ ! -s log ]
}
