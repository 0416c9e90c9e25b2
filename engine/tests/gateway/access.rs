//! Who may use the control socket, end to end: the real program, run by a user who is neither root nor the gateway's.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::Group;

use crate::kit::{Gateway, Site, wire};

/// The kernel's overflow user: it owns nothing. Debian calls it nobody.
const STRANGER: u32 = 65_534;

/// A group that Debian's user database has, and that nobody is in.
const GROUP: &str = "nogroup";

/// What `tidegate reload` says to the stranger, whose group is `gid`: its exit code, and what it wrote. Its request would
/// change what runs.
fn reload(gateway: &Gateway, gid: u32) -> (Option<i32>, String) {
    // Where the build is, others may have no way to.
    let program = gateway.socket.with_file_name("tidegate");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).unwrap();
    }
    let mut command = Command::new(program);
    command.arg("reload").env("TIDEGATE_SOCKET", &gateway.socket).uid(STRANGER).gid(gid);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn start(site: &Site, group: &str) -> Gateway {
    site.start(&wire(&format!("[control]\ngroup = \"{group}\"")))
}

fn mode(gateway: &Gateway) -> (u32, u32, u32) {
    let socket = std::fs::metadata(&gateway.socket).unwrap();
    (socket.uid(), socket.gid(), socket.mode() & 0o7777)
}

#[test]
fn a_stranger_is_kept_out_by_the_kernel_and_where_the_mode_is_wider_by_the_gateway() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let gateway = start(&site, "no-such-group");
    assert_eq!(mode(&gateway), (0, 0, 0o660));
    let (code, said) = reload(&gateway, STRANGER);
    assert!(code == Some(3) && said.contains("Permission denied"), "{code:?} {said}");
    std::fs::set_permissions(&gateway.socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let (code, said) = reload(&gateway, STRANGER);
    assert!(code == Some(1) && said.contains("for root and its group, not for user 65534"), "{code:?} {said}");
    assert_eq!(gateway.status().reload.reloads, 0);
    gateway.stop();
}

#[test]
fn who_is_of_the_group_is_served_and_who_is_of_another_is_not() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let group = Group::from_name(GROUP).unwrap().expect("a group of this name").gid.as_raw();
    let gateway = start(&site, GROUP);
    assert_eq!(mode(&gateway), (0, group, 0o660));
    std::fs::set_permissions(&gateway.socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let (code, said) = reload(&gateway, group - 1);
    assert!(code == Some(1) && said.contains("not for user 65534"), "{code:?} {said}");
    let (code, said) = reload(&gateway, group);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(gateway.status().reload.reloads, 1);
    gateway.stop();
}
