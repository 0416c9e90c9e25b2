//! Which running filter is which wanted one.
//!
//! Most filters did not change, and are listed in the order of the file: each running filter is compared with the one that
//! is expected next. Only where that fails, hash tables are built and asked.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::RandomState;
use tidegate_classifiers::request::{
    ActionInfo, ActionUse, FilterId, FilterInfo, FilterSpec, FlowerSpec, KindSpec, Owner,
};

use super::placing::Taken;
use crate::Block;

/// What runs in the place of a wanted filter.
#[derive(Debug)]
pub(super) enum Partner {
    /// Nothing.
    None,
    /// The same filter, here.
    Same(FilterId),
    /// The filter of that name; or without a name, of that match.
    Changed(Box<FilterInfo>),
}

impl Partner {
    /// The priority that the wanted filter may go on with.
    pub(super) fn priority(&self) -> Option<u32> {
        match self {
            Partner::None => None,
            Partner::Same(id) => Some(id.priority),
            Partner::Changed(info) => Some(info.priority),
        }
    }
}

/// Who is who.
#[derive(Debug)]
pub(super) struct Pairing {
    /// By wanted filter.
    pub(super) partners: Vec<Partner>,
    /// The configuration's running filters that nothing wanted corresponds to.
    pub(super) leftovers: Vec<FilterInfo>,
    /// The priorities that something runs at.
    pub(super) taken: Taken,
}

/// Pairs what runs with what is wanted. `order` is the canonical order of the wanted filters, `fixed` says which of them
/// cannot have another priority.
pub(super) fn pair(
    running: impl Iterator<Item = FilterInfo>,
    wanted: &Block,
    order: &[u32],
    fixed: &[bool],
) -> Pairing {
    let search = Search { wanted, order, fixed, state: RandomState::default() };
    let mut partners: Vec<Partner> = wanted.filters.iter().map(|_| Partner::None).collect();
    let (mut leftovers, mut taken) = (Vec::new(), Taken::default());
    let mut index: Option<(Index, Vec<u32>)> = None;
    let mut expected = 0;
    for info in running {
        taken.add(info.chain, info.priority);
        if info.owner == Owner::Client {
            continue;
        }
        let is_free = |number: u32| matches!(partners[number as usize], Partner::None);
        let next = order.get(expected).copied().filter(|&next| is_free(next) && search.is_same(next, &info));
        let found = next.or_else(|| {
            let (index, rank) = index.get_or_insert_with(|| (search.by_content(), search.ranks()));
            let found = [Some(info.priority), None].into_iter().find_map(|priority| {
                index.take(search.content_of(&info, priority), is_free, |number| search.is_same(number, &info))
            })?;
            expected = rank[found as usize] as usize;
            Some(found)
        });
        match found {
            Some(number) => {
                expected += 1;
                partners[number as usize] = Partner::Same(info.id());
            }
            None => leftovers.push(info),
        }
    }
    let is_free = |number: u32, partners: &[Partner]| matches!(partners[number as usize], Partner::None);
    if !leftovers.is_empty() {
        let mut index = search.by_identity(|number| is_free(number, &partners));
        leftovers = leftovers
            .into_iter()
            .filter_map(|info| {
                let found = index.take(
                    search.identity_of(&info),
                    |number| is_free(number, &partners),
                    |number| search.is_changed(number, &info),
                );
                match found {
                    Some(number) => {
                        partners[number as usize] = Partner::Changed(Box::new(info));
                        None
                    }
                    None => Some(info),
                }
            })
            .collect();
    }
    Pairing { partners, leftovers, taken }
}

/// How wanted filters are looked for.
struct Search<'a> {
    wanted: &'a Block,
    order: &'a [u32],
    fixed: &'a [bool],
    state: RandomState,
}

impl Search<'_> {
    fn filter(&self, number: u32) -> &FilterSpec {
        &self.wanted.filters[number as usize]
    }

    /// Place of each wanted filter in the canonical order.
    fn ranks(&self) -> Vec<u32> {
        let mut ranks = vec![0; self.order.len()];
        for (rank, &number) in (0..).zip(self.order) {
            ranks[number as usize] = rank;
        }
        ranks
    }

    /// All wanted filters, by what they say.
    fn by_content(&self) -> Index {
        let hashes = self.order.iter().rev().map(|&number| {
            let FilterSpec { chain, priority, protocol, kind, actions, name, .. } = self.filter(number);
            let priority = self.fixed[number as usize].then_some(*priority);
            (number, self.content(*chain, *protocol, name, kind, actions.len(), priority))
        });
        Index::new(self.order.len(), hashes)
    }

    fn content_of(&self, info: &FilterInfo, priority: Option<u32>) -> u64 {
        self.content(info.chain, info.protocol, &info.name, &info.matches, info.actions.len(), priority)
    }

    fn content(
        &self,
        chain: u32,
        protocol: u16,
        name: &str,
        kind: &KindSpec,
        actions: usize,
        priority: Option<u32>,
    ) -> u64 {
        let mut hasher = self.state.build_hasher();
        (chain, protocol, actions, priority).hash(&mut hasher);
        // A name is nearly as good as all the rest, and shorter.
        if name.is_empty() {
            hash_kind(kind, &mut hasher)
        } else {
            name.hash(&mut hasher)
        }
        hasher.finish()
    }

    /// Those wanted filters for which `select` says so, by what makes them the same although they were changed: a name; or
    /// without one, the match, and the priority if the file gives it.
    fn by_identity(&self, select: impl Fn(u32) -> bool) -> Index {
        let hashes = self.order.iter().rev().copied().filter(|&number| select(number)).map(|number| {
            let filter = self.filter(number);
            (number, self.identity(filter.chain, filter.protocol, &filter.name, &filter.kind))
        });
        Index::new(self.order.len(), hashes)
    }

    fn identity_of(&self, info: &FilterInfo) -> u64 {
        self.identity(info.chain, info.protocol, &info.name, &info.matches)
    }

    fn identity(&self, chain: u32, protocol: u16, name: &str, kind: &KindSpec) -> u64 {
        let mut hasher = self.state.build_hasher();
        (chain, protocol).hash(&mut hasher);
        if name.is_empty() {
            hash_kind(kind, &mut hasher)
        } else {
            name.hash(&mut hasher)
        }
        hasher.finish()
    }

    /// Whether `info` is what the file wants as `number`, at a priority that suits.
    fn is_same(&self, number: u32, info: &FilterInfo) -> bool {
        let FilterSpec { chain, priority, protocol, handle, kind, actions, name, options } = self.filter(number);
        let numbers = self.wanted.numbers[number as usize];
        (*chain, *protocol) == (info.chain, info.protocol)
            && (!self.fixed[number as usize] || *priority == info.priority)
            && (!numbers.handle || *handle == info.handle)
            && *name == info.name
            && *options == info.options
            && same_kind(kind, &info.matches)
            && actions.len() == info.actions.len()
            && actions.iter().zip(&info.actions).all(|(wanted, info)| same_action(wanted, info))
    }

    /// Whether `info` is what the file changed into `number`.
    fn is_changed(&self, number: u32, info: &FilterInfo) -> bool {
        let filter = self.filter(number);
        (filter.chain, filter.protocol, filter.kind.name().as_str()) == (info.chain, info.protocol, info.kind)
            && filter.name == info.name
            && match info.name.is_empty() {
                true => {
                    (!self.fixed[number as usize] || filter.priority == info.priority)
                        && same_kind(&filter.kind, &info.matches)
                }
                false => true,
            }
    }
}

/// Wanted filters by hash; those of one hash in canonical order.
struct Index {
    first: HashMap<u64, u32, RandomState>,
    /// By wanted filter: the next one of its hash, or [`END`].
    next: Vec<u32>,
}

const END: u32 = u32::MAX;

impl Index {
    /// Of filters with these hashes, the last ones first.
    fn new(filters: usize, hashes: impl Iterator<Item = (u32, u64)>) -> Index {
        let mut index = Index {
            first: HashMap::with_capacity_and_hasher(hashes.size_hint().0, RandomState::default()),
            next: vec![END; filters],
        };
        for (number, hash) in hashes {
            index.next[number as usize] = index.first.insert(hash, number).unwrap_or(END);
        }
        index
    }

    /// Takes out the first one with this hash that fits. Those that are not free any more go on the way.
    fn take(&mut self, hash: u64, is_free: impl Fn(u32) -> bool, fits: impl Fn(u32) -> bool) -> Option<u32> {
        let first = self.first.get_mut(&hash)?;
        let mut before: Option<u32> = None;
        let mut at = *first;
        while at != END {
            let next = self.next[at as usize];
            let free = is_free(at);
            let found = free && fits(at);
            if found || !free {
                match before {
                    None => *first = next,
                    Some(before) => self.next[before as usize] = next,
                }
            } else {
                before = Some(at);
            }
            if found {
                return Some(at);
            }
            at = next;
        }
        None
    }
}

/// Bits that the mask leaves out make no difference.
fn normal(spec: &FlowerSpec) -> FlowerSpec {
    FlowerSpec { value: spec.value.masked(&spec.mask), ..*spec }
}

fn same_kind(a: &KindSpec, b: &KindSpec) -> bool {
    match (a, b) {
        (KindSpec::Flower(a), KindSpec::Flower(b)) => a == b || normal(a) == normal(b),
        _ => a == b,
    }
}

fn hash_kind(kind: &KindSpec, hasher: &mut impl Hasher) {
    match kind {
        KindSpec::Flower(spec) => normal(spec).hash(hasher),
        KindSpec::Fw(spec) => spec.hash(hasher),
        KindSpec::U32(spec) => spec.hash(hasher),
        KindSpec::Matchall | KindSpec::Unknown => {}
    }
    kind.name().hash(hasher);
}

/// A number that the file does not give may be any. Flags have no effect.
fn same_action(wanted: &ActionUse, info: &ActionInfo) -> bool {
    let ActionUse { kind, index, spec, cookie, flags: _ } = wanted;
    *kind == info.spec.kind()
        && (*index == 0 || *index == info.index)
        && spec.as_ref().is_none_or(|spec| *spec == info.spec)
        && (cookie.is_none() || *cookie == info.cookie)
}
