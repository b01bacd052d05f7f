#!/bin/sh
# Runs in a guest kernel: every example from its one object file, with something for it to see. Prints `ok NAME` or
# `FAIL NAME` with the output, a line for each, and `done`. Busybox's tools are all there is besides skep.
fail=0
check() { # check NAME PATTERN COMMAND...: the command succeeds and prints the pattern
    name=$1 pattern=$2
    shift 2
    if "$@" >/tmp/out 2>&1 && grep -q -e "$pattern" /tmp/out; then
        echo "ok $name"
    else
        echo "FAIL $name (exit $?): wanted $pattern"
        tail -n 30 /tmp/out
        fail=1
    fi
}
example() { # example NAME PATTERN OPTIONS...: skep run with JSON lines on an example
    name=$1 pattern=$2
    shift 2
    # The object stands between the options and the command.
    options="" ; while [ $# -gt 0 ] && [ "$1" != -- ]; do options="$options $1"; shift; done
    # shellcheck disable=SC2086
    check "$name" "$pattern" skep run -q --format json $options "/examples/$name.bpf.o" "$@"
}

modprobe -a veth sch_ingress cls_bpf 2>/dev/null
ip2 link set lo up
ip2 link add veth0 type veth peer name veth1
ip2 addr add 10.77.0.1/24 dev veth0
ip2 link set veth0 up
ip2 link set veth1 up
mkdir /sys/fs/cgroup/test
echo secret >/tmp/guarded
: >/tmp/removed1 && : >/tmp/removed2

example hello 'hello, true' -- true
example syscall_latency '"call":"sys_getdents64","comm":"ls"' -- ls -lR /etc /bin
example execsnoop '"args":"cat /etc/passwd"' -- sh -c 'cat /etc/passwd >/dev/null 2>&1; cat /etc/passwd; true'
example opensnoop '"file":"/tmp/guarded"' -- cat /tmp/guarded
example runqlat '"slots":\[' -- sh -c 'for i in 1 2 3; do sleep 0.05; done'
example tcpconnect '"destination":"127.0.0.1".*handshake_' -- sh -c 'nc -w 1 127.0.0.1 4001 </dev/null; true'
example profile '"map":"samples"' -- sh -c 'i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done'
example xdp_proto '"family":"family_' --iface veth1 -- sh -c 'ping -c 2 -W 1 10.77.0.9; true'
example socket_filter '"name":"arp_packets","type":"global","value":[1-9]' --iface veth0 -- sh -c 'ping -c 2 -W 1 10.77.0.9; true'
example tc_bytes '"direction":"packet_sent"' --iface veth0 -- sh -c 'ping -c 2 -W 1 10.77.0.9; true'
example sk_lookup '"name":"looked_up","type":"global","value":[1-9]' -- sh -c 'nc -w 1 127.0.0.1 7001 </dev/null; true'
example connect_guard '"verdict":"connect_denied"' --cgroup /sys/fs/cgroup/test --param deny_port=4002 -- \
    sh -c 'echo $$ >/sys/fs/cgroup/test/cgroup.procs; nc -w 1 127.0.0.1 4002 </dev/null; true'
example task_iter 'comm' --duration 1s
# Nothing of busybox's asks the C library for a variable; skep itself does.
example uprobe_getenv '"comm":"skep".*"name":"PATH"' -- skep doctor
example kprobe_unlink '"name":"removed1"' -- rm /tmp/removed1
example fentry_unlink '"name":"removed2"' -- rm /tmp/removed2
example lsm_file_open '"denied":true' --param watch=guarded --param deny=true -- sh -c 'cat /tmp/guarded; true'

# The guard is gone with its run.
check unguarded secret cat /tmp/guarded
# Nothing stays loaded: what the kernel frees a moment later is waited for.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=$(skep ps programs --format json | wc -l)
    [ "$left" = 0 ] && break
    sleep 0.5
done
if [ "$left" = 0 ]; then echo "ok nothing-left"; else echo "FAIL nothing-left"; skep ps; fail=1; fi
check doctor 'kprobe' skep doctor
echo done
exit $fail
