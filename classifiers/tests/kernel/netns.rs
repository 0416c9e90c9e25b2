use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A network namespace with three veth pairs p0-q0, p1-q1, p2-q2, all up. Gone when dropped.
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    pub(crate) fn new() -> Result<Netns, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tgk{}-{count}", std::process::id());
        run("ip", &["netns", "add", &name])?;
        let netns = Netns { name };
        for port in 0..3 {
            let (near, far) = (format!("p{port}"), format!("q{port}"));
            netns.ip(&["link", "add", &near, "type", "veth", "peer", "name", &far])?;
            for name in [near, far] {
                // Frames of the kernel's own would be counted too.
                netns.ip(&["link", "set", &name, "addrgenmode", "none"])?;
                netns.ip(&["link", "set", &name, "arp", "off", "up"])?;
            }
        }
        Ok(netns)
    }

    /// For `ip netns exec` and `tc -netns`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the kernel has released what was deleted before: it does so after a grace period, as we do [DD-4].
    /// Removing an interface waits for all that is pending.
    pub(crate) fn settle(&self) {
        self.ip(&["link", "add", "s0", "type", "veth", "peer", "name", "s1"]).unwrap();
        self.ip(&["link", "delete", "s0"]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3)); // what was pending is queued now; the queue is short
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", &[&["-netns", &self.name], arguments].concat())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "delete", &self.name]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}
