//! What is right and will be slow: told by the filters alone, before a packet meets them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use tidegate_classifiers::flow_key::FlowKey;
use tidegate_classifiers::request::{ETH_P_ALL, FilterSpec, KindSpec};

use crate::error::{Problems, Wrong};
use crate::place::Place;
use crate::words::quote;

/// Masks of a chain that the index tells apart before it asks any.
const MASKS_MAX: usize = 1024;

/// Filters that are asked one after the other because they have one key.
const ALIKE_MAX: usize = 64;

/// Priorities of kinds that every packet asks one after the other.
const WALKED_MAX: usize = 16;

/// Other filters that are named.
const NAMED: usize = 3;

/// What filters look at: bits, whether they have port ranges, whether their protocol counts.
type Mask = (FlowKey, [bool; 2], bool);

/// What is known of one chain.
#[derive(Default)]
struct Tally {
    /// Where the first filter of each mask is.
    masks: HashMap<Mask, Place>,
    /// How many filters have a key, by its hash.
    alike: HashMap<u64, usize>,
    /// Where the first filter of each priority is that is walked.
    walked: BTreeMap<u32, Place>,
}

/// Reports what makes packets of the block `name` slow. `places` are those of `filters`.
pub(crate) fn warn(name: &str, filters: &[FilterSpec], places: &[Place], problems: &mut Problems) {
    let hasher = RandomState::new();
    let mut chains: BTreeMap<u32, Tally> = BTreeMap::new();
    for (filter, &place) in filters.iter().zip(places) {
        let tally = chains.entry(filter.chain).or_default();
        match mask(filter) {
            Some(mask) => {
                *tally.alike.entry(hash(&hasher, filter)).or_default() += 1;
                tally.masks.entry(mask).or_insert(place);
            }
            None => _ = tally.walked.entry(filter.priority).or_insert(place),
        }
    }
    for (index, Tally { masks, alike, walked }) in chains {
        let chain = format!("chain {index} of block {}", quote(name));
        let mut masks: Vec<Place> = masks.into_values().collect();
        masks.sort_unstable();
        if masks.len() > MASKS_MAX {
            let (count, further) = (masks.len(), named(", more at ", &masks[MASKS_MAX + 1..], problems));
            let problem = format!("slow: {count} different masks in {chain}, here number {}{further}", MASKS_MAX + 1);
            let hint = "a packet may be looked up once for each: let filters look at the same bits";
            problems.warn(masks[MASKS_MAX], Wrong::new(problem).hint(hint));
        }
        let mut crowds: HashMap<u64, (usize, Vec<Place>)> = alike
            .into_iter()
            .filter(|(_, count)| *count > ALIKE_MAX)
            .map(|(key, count)| (key, (count, Vec::new())))
            .collect();
        for (filter, &place) in filters.iter().zip(places).filter(|(filter, _)| filter.chain == index) {
            if crowds.is_empty() {
                break;
            }
            if let Some((_, all)) = crowds.get_mut(&hash(&hasher, filter)).filter(|(_, all)| all.len() < NAMED + 2) {
                all.push(place);
            }
        }
        for (count, all) in crowds.into_values() {
            let problem = format!(
                "slow: {count} filters in {chain} differ by port ranges or priorities only{}",
                named(", the others are at ", &all[1..], problems)
            );
            let hint = "a packet is compared with one after the other: join ranges that are side by side";
            problems.warn(all[0], Wrong::new(problem).hint(hint));
        }
        let mut walked: Vec<Place> = walked.into_values().collect();
        walked.sort_unstable();
        if walked.len() > WALKED_MAX {
            let problem = format!(
                "slow: {} priorities of kind fw or u32 in {chain}{}",
                walked.len(),
                named(", the others are at ", &walked[1..], problems)
            );
            let hint = "every packet asks one after the other: put marks into one priority, keys into tables";
            problems.warn(walked[0], Wrong::new(problem).hint(hint));
        }
    }
}

/// What the filter looks at; nothing if its kind is walked.
fn mask(filter: &FilterSpec) -> Option<Mask> {
    let exact = filter.protocol != ETH_P_ALL;
    match &filter.kind {
        KindSpec::Flower(spec) => {
            Some((spec.mask, [spec.src_port_range, spec.dst_port_range].map(|range| range.is_some()), exact))
        }
        KindSpec::Matchall => Some((FlowKey::EMPTY, [false; 2], exact)),
        KindSpec::Fw(_) | KindSpec::U32(_) | KindSpec::Unknown => None,
    }
}

/// Of what a packet is looked up by to find the filter.
fn hash(hasher: &RandomState, filter: &FilterSpec) -> u64 {
    let value = match &filter.kind {
        KindSpec::Flower(spec) => spec.value.masked(&spec.mask),
        _ => FlowKey::EMPTY,
    };
    hasher.hash_one((mask(filter), value, filter.protocol))
}

/// The first of these places.
fn named(word: &str, places: &[Place], problems: &Problems) -> String {
    let shown: Vec<String> = places.iter().take(NAMED).map(|place| problems.show(*place)).collect();
    let more = if places.len() > NAMED { " and so on" } else { "" };
    if shown.is_empty() { String::new() } else { format!("{word}{}{more}", shown.join(", ")) }
}
