# shellcheck shell=bash disable=SC2154 # vm/guest.sh puts nic and binary before this file
# Runs in the guest as root: the test binary that puts ours beside the kernel's tc, on a kernel that has every kind and
# action: flower, matchall, fw, u32, gact, mirred. The exit status is that of the tests.
set -u
# Every frame is sent and seen by the receiver before the next one: no backlog, no help from other threads.
export CI=true PACKETS=${packets:-1000000} SCRIPTS=${scripts:-15}
"$binary" --nocapture --test-threads 1
status=$?
dmesg | grep -E 'WARNING|BUG:|Call Trace|blocked for more' && status=1
exit $status
