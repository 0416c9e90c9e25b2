//! Ports by number: filters name ports by numbers, and a port that runs keeps its own while others come and go.

use std::collections::BTreeMap;

use tidegate_classifiers::port::PortId;

/// Most ports of a gateway: what the ledger of a worker's frames can tell apart.
pub const PORTS_MAX: u16 = 127;

/// Which number each port has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortNumbers {
    taken: BTreeMap<String, PortId>,
    /// Where to look for a free one: one that was given back rests for as long as can be.
    next: u16,
}

impl PortNumbers {
    /// The number of `name`: the one it has, or else the next that is free. `None` if all are taken.
    pub fn assign(&mut self, name: &str) -> Option<PortId> {
        if let Some(&number) = self.taken.get(name) {
            return Some(number);
        }
        let in_turn = (0..PORTS_MAX).map(|step| PortId((self.next + step) % PORTS_MAX));
        let number = in_turn.into_iter().find(|number| self.taken.values().all(|taken| taken != number))?;
        self.insert(name, number);
        Some(number)
    }

    /// `name` has this number.
    pub fn insert(&mut self, name: &str, number: PortId) {
        if self.taken.insert(name.to_owned(), number) != Some(number) {
            self.next = (number.0 + 1) % PORTS_MAX;
        }
    }

    /// Only the ports that `stays` names keep their numbers.
    pub fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        self.taken.retain(|name, _| stays(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_keeps_its_number_and_a_free_one_rests() {
        let mut numbers = PortNumbers::default();
        let mut assign = |names: &[&str]| -> Vec<u16> {
            numbers.retain(|name| names.contains(&name));
            names.iter().map(|name| numbers.assign(name).unwrap().0).collect()
        };
        assert_eq!(assign(&["a", "b", "c"]), [0, 1, 2]);
        assert_eq!(assign(&["c", "a"]), [2, 0]);
        assert_eq!(assign(&["c", "b", "a"]), [2, 3, 0]);
        for turn in 0..3 * PORTS_MAX {
            let name = format!("d{turn}");
            let [c, a, d] = assign(&["c", "a", &name])[..] else { panic!("three") };
            assert!((c, a) == (2, 0) && d != 2 && d != 0);
        }
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let mut numbers = PortNumbers::default();
        (0..PORTS_MAX).for_each(|number| assert_eq!(numbers.assign(&format!("p{number}")), Some(PortId(number))));
        assert_eq!(numbers.assign("another"), None);
        numbers.retain(|name| name != "p7");
        assert_eq!(numbers.assign("another"), Some(PortId(7)));
    }
}
