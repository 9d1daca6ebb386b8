# How a guest ends, and what is told of it.
load helper

@test "hello: a guest prints and powers off" {
    guest hello
    [ "$status" -eq 0 ]
    [ "$(cat out)" = hello ]
    [ "$(cat err)" = "mayfly: the guest powered off" ]
}

@test "a reset by port 0x64 is a reboot" {
    guest ends -a end=reset-64
    [ "$status" -eq 0 ]
    last "the guest rebooted; Mayfly ends there"
}

@test "a reset by the ACPI register is a reboot" {
    guest ends -a end=reset-acpi
    [ "$status" -eq 0 ]
    last "the guest rebooted; Mayfly ends there"
}

@test "other values in those registers end nothing" {
    guest ends -a end=not-yet
    [ "$status" -eq 0 ]
    says "still here"
    last "the guest powered off"
}

# AMD's processors forget RIP at a shutdown.
fault_rip() { [ -d /sys/module/kvm_amd ] && sed -n 's/.*RIP //p' err || symbol "$@"; }

@test "a triple fault tells vCPU and RIP" {
    guest ends -a end=triple
    [ "$status" -eq 71 ]
    last "the guest triple-faulted: vCPU 0 at RIP $(fault_rip ends triple_fault)"
}

@test "a triple fault of another vCPU" {
    guest smp -c 4 -a "cpus=4 fault=2"
    [ "$status" -eq 71 ]
    last "the guest triple-faulted: vCPU 2 at RIP $(fault_rip smp ap_fault)"
}

@test "a panic, by reset and by triple fault" {
    guest ends -a end=panic
    [ "$status" -eq 70 ]
    last "the guest's kernel panicked"
    tells "the guest never used its console"
    guest ends -a end=panic-triple
    [ "$status" -eq 70 ]
    last "the guest's kernel panicked"
}

@test "--timeout ends a loop, and tells where it was" {
    local begin=$(now_ms)
    guest ends -a end=loop --timeout 500ms
    [ "$status" -eq 124 ]
    between 500 2000 $(($(now_ms) - begin))
    last "the time of --timeout was up; the guest was ended"
    tells "the guest never used its console"
    tells "vCPU 0 is at RIP $(symbol ends loop)"
}

@test "--timeout ends HLT with interrupts off" {
    guest ends -a "say end=hlt" --timeout 300ms
    [ "$status" -eq 124 ]
    says here
    last "the time of --timeout was up; the guest was ended"
    ! grep RIP err || false
}

@test "SIGTERM, SIGINT, SIGHUP, SIGQUIT: the guest has --grace, then it is ended" {
    local row begin
    for row in TERM:143 INT:130 HUP:129 QUIT:131; do
        # A background job of a script ignores SIGINT and SIGQUIT; the monitor wants them.
        start ends -a "say end=hlt" --grace 400ms --timeout 10s
        begin=$(now_ms)
        kill -"${row%:*}" "$pid"
        finish
        echo "${row%:*}"
        [ "$status" -eq "${row#*:}" ]
        between 390 1500 $(($(now_ms) - begin))
        grep -q "the guest was ended$" err
        rm ready
    done
}

@test "a second signal ends the guest at once, and so does --grace 0" {
    start ends -a "say end=loop" --grace 30s --timeout 10s
    local begin=$(now_ms)
    kill -TERM "$pid"
    sleep 0.1
    kill -INT "$pid"
    finish
    [ "$status" -eq 143 ]
    between 90 1500 $(($(now_ms) - begin))
    rm ready
    start ends -a "say end=loop" --grace 0 --timeout 10s
    begin=$(now_ms)
    kill -TERM "$pid"
    finish
    [ "$status" -eq 143 ]
    between 0 1000 $(($(now_ms) - begin))
}

@test "a guest that ends by itself after a signal gives its own status" {
    mkfifo in
    exec 8<>in
    start echo --timeout 10s --grace 10s <in
    wait_for says ready
    kill -TERM "$pid"
    sleep 0.2
    printf '\004' >&8
    finish
    [ "$status" -eq 0 ]
    last "the guest powered off"
}

@test "a signal presses the power button, and a guest that heeds it powers off" {
    start button --timeout 10s --grace 5s
    wait_for says ready
    kill -TERM "$pid"
    finish
    [ "$status" -eq 0 ]
    says pressed
    last "the guest powered off"
}

@test "an instruction that KVM can't emulate: 125, and its bytes" {
    "$mayfly" probe >/dev/null && skip "this KVM has hardware virtualization and refuses nothing"
    guest ends -a "say end=int3"
    [ "$status" -eq 125 ]
    tells "vCPU 0 can't go on: KVM can't emulate an instruction: cc "
    tells "at RIP $(symbol ends breakpoint)"
}
