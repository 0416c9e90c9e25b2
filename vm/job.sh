# shellcheck shell=bash disable=SC2154 # vm/guest.sh puts nic and binary before this file
# Runs in the guest as root: the gateway between two ports whose driver does zero-copy, and what must hold there.
# The exit status is 0 if everything held.
set -u
job=/run/job
socket=/run/tidegate.sock
config=/run/tidegate.toml
chunk=4096
failures=0
gateway=

# check WHAT COMMAND...: the command must succeed. It runs in this shell, so that it can start and wait for programs.
check() {
  local what=$1
  shift
  if "$@" >/run/seen 2>&1; then
    echo "ok    $nic: $what$(sed -n '1s/.*/ (&)/p' /run/seen)"
  else
    echo "FAIL  $nic: $what"
    sed 's/^/      /' /run/seen
    tail -n 20 /run/tidegate.log 2>/dev/null | sed 's/^/      log: /'
    failures=$((failures + 1))
  fi
}

# eventually SECONDS COMMAND...: the command succeeds before the time is over; prints what it printed last.
eventually() {
  local end=$((SECONDS + $1)) seen
  shift
  until seen=$("$@" 2>&1); do
    if (( SECONDS >= end )); then echo "$seen"; return 1; fi
    sleep 0.1
  done
  [[ -z $seen ]] || echo "$seen"
}

# host ARGUMENTS...: has vm/frames.c run on the host, prints what it said, ends as it did.
host() {
  local number=1
  while [[ -e $job/ask.$number ]]; do number=$((number + 1)); done
  echo "$*" >"$job/ask"
  mv "$job/ask" "$job/ask.$number"
  until [[ -e $job/answer.$number ]]; do sleep 0.05; done
  cat "$job/said.$number"
  return "$(cat "$job/answer.$number")"
}

configure() { # configure CHUNK_SIZE MODE
  cat >$config <<TOML
[workers]
count = 1
idle = "busy"
chunk_size = $1
huge_pages = true

[port.p0]
forward_to = "p1"
mode = "$2"

[port.p1]
forward_to = "p0"
mode = "$2"
TOML
}

start() {
  "$binary" run --config $config --socket $socket >/run/tidegate.log 2>&1 &
  gateway=$!
  eventually 20 status >/dev/null
}

stop() {
  kill -TERM $gateway
  wait $gateway
}

status() { "$binary" status --json --socket $socket; }

carrier() { [[ $(cat /sys/class/net/p0/carrier /sys/class/net/p1/carrier 2>&1 | tr -d '\n') == 11 ]]; }

# What the kernel says of the sockets, asked from outside the gateway: sock_diag, by ss.
zero_copy_sockets() { [[ $(ss --xdp --all --extended | grep -c 'zc:1') == 2 ]] && echo "sock_diag: zc:1 twice"; }

copy_sockets() { [[ $(ss --xdp --all --extended | grep -c 'zc:0') == 2 ]] && echo "sock_diag: zc:0 twice"; }

status_says() { # status_says COUNT PATTERN
  local n; n=$(status | grep -o "$2" | wc -l)
  echo "$n times $2"
  [[ $n == "$1" ]]
}

huge_pages_used() {
  local total free
  total=$(awk '/^HugePages_Total/ { print $2 }' /proc/meminfo)
  free=$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)
  echo "$((total - free)) of $total huge pages in use"
  (( free < total ))
}

# Wake-ups (sendto) of the gateway while a command runs.
wakeups_during() {
  local events=/sys/kernel/tracing
  echo 0 >$events/tracing_on
  echo >$events/trace
  echo >$events/set_event_pid
  echo 16384 >$events/buffer_size_kb
  echo syscalls:sys_enter_sendto >$events/set_event
  for task in /proc/$gateway/task/*; do echo "${task##*/}" >>$events/set_event_pid; done
  echo 1 >$events/tracing_on
  "$@" >/run/during 2>&1 || { cat /run/during; return 1; }
  echo 0 >$events/tracing_on
  grep -c 'sys_sendto(' $events/trace || true
}

# The worker spins here. Without need-wakeup it would kick at every turn, or never, and then nothing would leave.
no_wakeups_while_idle() {
  local n; n=$(wakeups_during sleep 1) || return 1
  echo "$n in a second"
  (( n < 20 ))
}

wakeups_with_frames() {
  local n; n=$(wakeups_during host verify 5000 64) || { echo "$n"; return 1; }
  echo "$n for 10000 frames"
  (( n > 0 && n < 20000 )) # a burst may hold a single frame, and a kick may come too early
}

refused_with_hint() { # refused_with_hint PATTERN
  local out code
  out=$(timeout 20 "$binary" run --config $config --socket $socket 2>&1)
  code=$?
  echo "exit $code: $(tail -n 1 <<<"$out" | sed 's/.*ERROR *//')"
  (( code != 0 && code != 124 )) && grep -q "$1" <<<"$out"
}

for port in p0 p1; do
  echo 1 >/proc/sys/net/ipv6/conf/$port/disable_ipv6
  ethtool -L $port combined 1 2>/dev/null
  ip link set $port up
done
check "both ports have carrier" eventually 20 carrier

# A driver that has no zero-copy must be refused, or what follows would prove nothing.
ip link add p8 type veth peer name p9
ip link set p8 up
ip link set p9 up
configure 4096 zero-copy
sed -i 's/p0/p8/; s/p1/p9/' $config
check "veth: zero-copy is refused" refused_with_hint 'zero-copy'
ip link delete p8

if [[ $nic == igb ]]; then
  configure 2048 zero-copy
  check "chunks that would cut frames are refused, with a hint" refused_with_hint 'chunk_size = 4096'
else
  ip link set p0 mtu 2000
  configure 2048 zero-copy
  check "chunks too small for the MTU are refused, with a hint" refused_with_hint 'chunk_size = 4096'
  ip link set p0 mtu 1500
fi

configure $chunk zero-copy
check "the gateway starts in zero-copy" start
check "the kernel says zero-copy" zero_copy_sockets
check "status says zero-copy" status_says 2 '"zero_copy":true'
check "huge pages" huge_pages_used
check "both ports have carrier again" eventually 20 carrier
check "64 bytes, both ways, byte for byte" host verify 5000 64
check "1514 bytes, both ways, byte for byte" host verify 5000 1514
check "need-wakeup: an idle worker makes no system calls" no_wakeups_while_idle
check "need-wakeup: it kicks when there are frames" wakeups_with_frames

check "the cable of p1 is pulled" host link 1 off
check "status says so" eventually 10 status_says 1 '"link":"no-carrier"'
check "the cable is back" host link 1 on
check "status says so" eventually 20 status_says 2 '"link":"up"'
check "both ports have carrier" eventually 20 carrier
check "frames flow again, byte for byte" host verify 2000 1514

check "p1 is set down" ip link set p1 down
check "status says so" eventually 10 status_says 1 '"link":"down"'
check "p1 is set up" ip link set p1 up
check "both ports have carrier" eventually 20 carrier
check "frames flow again, byte for byte" host verify 2000 1514
check "still zero-copy" zero_copy_sockets

{ kill -KILL $gateway; wait $gateway; } 2>/dev/null
check "after kill -9 the next one starts" start
check "in zero-copy" zero_copy_sockets
check "both ports have carrier" eventually 20 carrier
check "frames flow, byte for byte" host verify 2000 64
check "it stops cleanly, every frame accounted for" stop

configure $chunk native
check "the same driver in copy mode, when the file says native" start
check "the kernel says copy" copy_sockets
check "both ports have carrier" eventually 20 carrier
check "frames flow, byte for byte" host verify 2000 1514
check "it stops cleanly, every frame accounted for" stop

complaints() { ! dmesg | grep -E 'WARNING|BUG:|Call Trace|blocked for more'; }
check "the kernel did not complain" complaints
exit $((failures > 0))
