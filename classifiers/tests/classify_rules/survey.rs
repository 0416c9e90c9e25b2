use tidegate_classifiers::flow_key::{DST_IP_LOW, SRC_IP_LOW, SRC_MAC};
use tidegate_classifiers::request::{
    self, ChainCost, ETH_P_ALL, FilterKey, FilterSpec, FlowerSpec, FwSpec, KindSpec, add_filter, delete_chain,
    delete_filter, survey,
};

use crate::support::*;

const IPV4: u16 = 0x0800;

/// From and to these networks.
fn between(priority: u32, (from, from_len): (u32, u32), (to, to_len): (u32, u32)) -> FilterSpec {
    let mut spec = FlowerSpec::default();
    for (field, address, len) in [(SRC_IP_LOW, from, from_len), (DST_IP_LOW, to, to_len)] {
        let mask = u64::from(u32::MAX.checked_shl(32 - len).unwrap_or(0));
        spec.value.set(field, u64::from(address) & mask);
        spec.mask.set(field, mask);
    }
    flower(priority, IPV4, spec, &[])
}

fn only(costs: &[ChainCost]) -> ChainCost {
    assert_eq!(costs.len(), 1, "{costs:?}");
    costs[0]
}

#[test]
fn a_few_filters_are_asked_one_by_one() {
    let rig = Rig::new(&[]);
    assert_eq!(survey(&rig.block), []);
    for priority in 1..=2 {
        add_filter(&rig.block, &flower(priority, ETH_P_ALL, keys(&[(SRC_MAC, priority.into())]), &[])).unwrap();
    }
    add_filter(&rig.block, &matchall(3, &[])).unwrap();
    let fw = KindSpec::Fw(FwSpec { mask: u32::MAX, indev: None });
    add_filter(&rig.block, &FilterSpec { kind: fw, handle: 1, ..matchall(4, &[]) }).unwrap();
    add_filter(&rig.block, &in_chain(7, matchall(1, &[]))).unwrap();
    let cost = |chain, filters, masks, walked| ChainCost { chain, filters, masks, probes: filters as f64, walked };
    assert_eq!(survey(&rig.block), [cost(0, 3, 2, 1), cost(7, 1, 1, 0)]);
}

#[test]
fn one_mask_is_one_probe_however_many_filters_there_are() {
    let rig = Rig::new(&[]);
    for n in 1..=1000 {
        add_filter(&rig.block, &between(n, (n * 7919, 32), (n * 104_729, 32))).unwrap();
    }
    let cost = only(&survey(&rig.block));
    assert_eq!((cost.filters, cost.masks, cost.walked), (1000, 1, 0));
    assert!((0.9..=1.0).contains(&cost.probes), "{cost:?}");
    for priority in 1..=1000 {
        delete_filter(&rig.block, FilterKey::priority(0, priority)).unwrap();
    }
    assert_eq!(survey(&rig.block), []);
}

/// Networks that are one in the other: a packet from the innermost may be for each of the masks. Networks side by side: only those of
/// its own.
#[test]
fn probes_are_the_masks_that_nothing_rules_out() {
    let rig = Rig::new(&[]);
    let address = u32::MAX;
    for len in 1..=24 {
        add_filter(&rig.block, &between(len, (address, len), (0, 0))).unwrap();
    }
    let nested = only(&survey(&rig.block));
    assert_eq!((nested.filters, nested.masks), (24, 24));
    assert!((8.0..=24.0).contains(&nested.probes), "{nested:?}");

    delete_chain(&rig.block, 0).unwrap();
    for len in 1..=24_u32 {
        add_filter(&rig.block, &between(len, (1 << (32 - len), len), (0, 0))).unwrap(); // 1..., 01..., 001...
    }
    let apart = only(&survey(&rig.block));
    assert_eq!((apart.filters, apart.masks), (24, 24));
    assert!((0.9..=1.5).contains(&apart.probes), "{apart:?}");
    assert_eq!(request::dump(&rig.block).len(), 24);
}
