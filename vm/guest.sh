#!/usr/bin/env bash
# A guest whose network drivers do AF_XDP zero-copy, under QEMU's software emulation (no KVM needed).
#
#   vm/guest.sh setup             QEMU, a kernel, an initramfs, the frame generator: from Debian, kept in a cache
#   vm/guest.sh test NIC BINARY   boots with two ports of NIC (virtio or igb), runs vm/job.sh with the binary, and
#                                 ends with its status
#   vm/guest.sh tc BINARY         the same with vm/tc-job.sh: a kernel that has all of tc, beside ours
#
# The cache is $VM_DIR, by default ~/.cache/tidegate-vm. No interface of the machine is made or touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cache=${VM_DIR:-${XDG_CACHE_HOME:-${HOME:-$PWD/../target}/.cache}/tidegate-vm}

# What the job needs beyond the kernel itself; what they depend on is found out.
modules=(9pnet_virtio 9p overlay virtio_net igb veth xsk_diag tun sch_ingress cls_bpf
  cls_flower cls_matchall cls_u32 cls_fw act_gact act_mirred act_police)

die() { echo "vm: $*" >&2; exit 1; }

setup() {
  [[ $(uname -m) == x86_64 ]] || die "the guest is built for x86_64 machines only"
  local stamp; stamp=$(cat guest.sh init frames.c | sha256sum)
  if [[ $(cat "$cache/stamp" 2>/dev/null) == "$stamp" ]] && modern_qemu; then return; fi
  mkdir -p "$cache"
  rm -f "$cache/stamp"
  private_apt
  install_qemu
  fetch_kernel
  pack_initramfs
  gcc -O2 -o "$cache/frames" frames.c
  echo "$stamp" >"$cache/stamp"
  echo "vm: $(basename "$(readlink "$cache/kernel")"), $(qemu-system-x86_64 --version | head -1), in $cache"
}

# Package lists of our own for bookworm-backports (QEMU) and trixie-backports (kernel), from the machine's own mirror:
# its own lists and sources stay as they are.
private_apt() {
  local apt=$cache/apt mirror suite
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    grep -v '^ *#' | grep -oE 'https?://[^] ]*/debian/?( |$)' | head -1 | tr -d ' ') || true
  mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc/preferences.d,etc/apt.conf.d}
  for suite in bookworm bookworm-updates bookworm-backports trixie-backports; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} $suite main"
  done >"$apt/etc/sources.list"
  cat >"$apt/etc/preferences.d/backports" <<'TEXT'
Package: *
Pin: release n=trixie-backports
Pin-Priority: 50

Package: *
Pin: release n=bookworm-backports
Pin-Priority: 100
TEXT
  cat >"$apt/apt.conf" <<TEXT
Dir::Etc "$apt/etc";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
DPkg::Lock::Timeout "600";
TEXT
  export APT_CONFIG=$apt/apt.conf
  apt-get update -qq
}

modern_qemu() { # 8 or newer: older ones have no igb
  local version
  version=$(qemu-system-x86_64 --version 2>/dev/null | sed -nE '1s/.*version ([0-9]+).*/\1/p')
  [[ ${version:-0} -ge 8 ]]
}

install_qemu() {
  if modern_qemu; then return; fi
  local as_root=()
  if (( EUID != 0 )); then as_root=(sudo); fi
  echo "vm: missing: qemu-system-x86 of bookworm-backports, the first in Debian 12 with an igb port"
  "${as_root[@]}" env APT_CONFIG="$APT_CONFIG" DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends -t bookworm-backports qemu-system-x86 </dev/null
}

# The newest kernel there is, unpacked beside the machine's own, not installed.
fetch_kernel() {
  local version packages tree deb
  version=$(apt-cache search --names-only '^linux-image-[0-9].*[0-9]-amd64$' | awk '{ print substr($1, 13) }' |
    sort -V | tail -1)
  [[ -n $version ]] || die "no kernel in the package lists"
  tree=$cache/$version
  if [[ ! -e $tree/complete ]]; then
    rm -rf "$tree"
    mkdir -p "$tree/packages"
    packages=("linux-image-$version") # newer ones are split in two
    if apt-cache show "linux-binary-$version" >/dev/null 2>&1; then
      packages=("linux-binary-$version" "linux-modules-$version")
    fi
    (cd "$tree/packages" && apt-get download -qq "${packages[@]}")
    for deb in "$tree"/packages/*.deb; do
      dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tree" --wildcards --no-anchored 'vmlinuz*' \
        'kernel/drivers/net' 'kernel/drivers/i2c' 'kernel/drivers/dca' 'kernel/drivers/virtio' 'kernel/net' \
        'kernel/fs/9p' 'kernel/fs/netfs' 'kernel/fs/overlayfs' 2>/dev/null || true # no package has all of them
    done
    rm -rf "$tree/packages"
    ln -s "$(find "$tree" -name 'vmlinuz*' -type f | head -1)" "$tree/kernel"
    touch "$tree/complete"
  fi
  ln -sfn "$tree" "$cache/kernel"
}

pack_initramfs() {
  local root=$cache/initramfs module
  rm -rf "$root"
  mkdir -p "$root/bin" "$root/modules"
  cp "$(command -v busybox)" "$root/bin/busybox"
  install -m 755 init "$root/init"
  : >"$root/modules/order"
  for module in "${modules[@]}"; do add_module "$root/modules" "$module"; done
  (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$cache/initramfs.gz"
  rm -rf "$root"
}

# What a module depends on comes before it. Dashes and underscores are the same to the kernel.
add_module() {
  local folder=$1 name=${2//-/_} file needed
  if grep -qx "$name" "$folder/order"; then return; fi
  file=$(find "$cache/kernel/" -name "${name//_/[-_]}.ko*" | head -1)
  if [[ -z $file ]]; then return; fi # built in
  case $file in
    *.xz) xz -dc "$file" ;;
    *.zst) zstd -qdc "$file" ;;
    *) cat "$file" ;;
  esac >"$folder/$name.ko"
  for needed in $(grep -az '^depends=' "$folder/$name.ko" | tr -d '\0' | sed 's/^depends=//; s/,/ /g'); do
    add_module "$folder" "$needed"
  done
  echo "$name" >>"$folder/order"
}

run_test() {
  local nic=$1 job=$2 binary asked=1 status
  binary=$(realpath "$3")
  folder=$(mktemp -d /tmp/tidegate-vm.XXXXXX) # short: paths of UNIX sockets are
  trap 'kill "${qemu:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
  { printf 'nic=%s\nbinary=%q\n' "$nic" "$binary"; cat "$job"; } >"$folder/job.sh"
  echo "vm: $nic"
  boot "$nic" </dev/null > >(tr -d '\r' | sed -u 's/\x1b\[[0-9;?]*[A-Za-z]//g; s/\x1bc//g') & qemu=$!
  # What the job asks for, one numbered file each: see `host` in job.sh.
  while kill -0 "$qemu" 2>/dev/null; do
    if [[ -e $folder/ask.$asked ]]; then
      status=0
      # shellcheck disable=SC2046 # words
      "$cache/frames" "$folder" $(cat "$folder/ask.$asked") >"$folder/said.$asked" 2>&1 || status=$?
      echo "$status" >"$folder/answer"
      mv "$folder/answer" "$folder/answer.$asked"
      asked=$((asked + 1))
    fi
    sleep 0.05
  done
  wait "$qemu" || true
  [[ -e $folder/status ]] || die "$nic: the guest ended without a result"
  status=$(cat "$folder/status")
  if (( status == 0 )); then echo "vm: $nic: all held"; else die "$nic: failed"; fi
}

# The ports: pN is an in-folder pair of datagram sockets, pN.guest to send to, pN.host to receive on.
boot() {
  local port device arguments=(
    -M q35 -accel "tcg,thread=multi,tb-size=256" -cpu max -smp 2 -m 1024
    -nodefaults -no-user-config -display none -no-reboot
    -serial stdio -monitor "unix:$folder/monitor,server=on,wait=off"
    -kernel "$cache/kernel/kernel" -initrd "$cache/initramfs.gz"
    # no_timer_check: on a busy host the emulated timer comes late, and the kernel would give up on it.
    -append "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off no_timer_check"
    -virtfs "local,id=host,mount_tag=host,path=/,security_model=none,readonly=on,multidevs=remap"
    -virtfs "local,id=job,mount_tag=job,path=$folder,security_model=none"
  )
  for port in 0 1; do
    device="netdev=n$port,mac=52:54:00:12:00:0$port,romfile="
    case $1 in
      # Zero-copy wants the DMA API (iommu_platform) and queues that can be reset one by one.
      virtio) device="virtio-net-pci,$device,disable-legacy=on,iommu_platform=on,queue_reset=on,rx_queue_size=1024" ;;
      # A root port each: their virtual functions' numbers would collide on one bus.
      igb) arguments+=(-device "pcie-root-port,id=root$port,chassis=$((port + 1)),slot=$((port + 1))")
        device="igb,$device,bus=root$port" ;;
      *) die "no such NIC: $1; there are virtio and igb" ;;
    esac
    arguments+=(
      -netdev "dgram,id=n$port,local.type=unix,local.path=$folder/p$port.guest,remote.type=unix,remote.path=$folder/p$port.host"
      -device "$device")
  done
  exec timeout --foreground -k 5 "${VM_SECONDS:-600}" qemu-system-x86_64 "${arguments[@]}"
}

case ${1:-} in
  setup) setup ;;
  test) run_test "$2" job.sh "$3" ;;
  tc) run_test virtio tc-job.sh "$2" ;;
  *) sed -n '2,10p' "$0" >&2; exit 64 ;;
esac
