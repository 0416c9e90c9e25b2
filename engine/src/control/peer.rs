//! Who is at the other end of a connection.

use std::ffi::CString;
use std::os::unix::net::UnixStream;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::{Gid, Group, Uid, User, geteuid, getgrouplist};

/// Who connected, as the kernel noted it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) pid: i32,
    pub(super) uid: Uid,
    gid: Gid,
}

impl Peer {
    pub(super) fn new(pid: i32, uid: Uid, gid: Gid) -> Peer {
        Peer { pid, uid, gid }
    }

    pub(super) fn of(stream: &UnixStream) -> nix::Result<Peer> {
        let credentials = getsockopt(stream, PeerCredentials)?;
        Ok(Peer::new(credentials.pid(), Uid::from_raw(credentials.uid()), Gid::from_raw(credentials.gid())))
    }

    /// Whether it may use the socket: root, the gateway's own user, and whoever is of `group`. The kernel has checked the
    /// socket's mode already; this holds also where somebody made the mode wider.
    pub(super) fn may_use(self, group: Option<Gid>) -> bool {
        let of_group = |group| self.gid == group || groups(self.uid, self.gid).contains(&group);
        self.uid.is_root() || self.uid == geteuid() || group.is_some_and(of_group)
    }
}

/// The groups of a user, as the system's user database knows them.
fn groups(uid: Uid, gid: Gid) -> Vec<Gid> {
    let name = User::from_uid(uid).ok().flatten().and_then(|user| CString::new(user.name).ok());
    name.and_then(|name| getgrouplist(&name, gid).ok()).unwrap_or_default()
}

/// The group of this name, if there is one.
pub(super) fn group(name: &str) -> Option<Gid> {
    Group::from_name(name).ok().flatten().map(|group| group.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_who_connected() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = Peer::of(&here).unwrap();
        assert_eq!(peer.uid, geteuid());
        assert_eq!(peer.pid, std::process::id().cast_signed());
        assert!(peer.may_use(None), "one may use one's own gateway");
    }

    #[test]
    fn a_stranger_may_use_it_only_as_one_of_the_group() {
        let stranger = Peer::new(1, Uid::from_raw(4_000_001), Gid::from_raw(4_000_002));
        assert!(!stranger.may_use(None));
        assert!(!stranger.may_use(Some(Gid::from_raw(4_000_003))));
        assert!(stranger.may_use(Some(stranger.gid)));
    }

    #[test]
    fn the_user_database_says_who_is_of_a_group() {
        let root = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        assert!(groups(root.uid, root.gid).contains(&root.gid));
        assert_eq!(groups(Uid::from_raw(4_000_001), root.gid), [], "nobody knows this one");
    }
}
