//! Filters in their block: priorities and handles are filled in, and what is there twice is found.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use tidegate_classifiers::request::{FilterSpec, FlowerSpec, KindName, KindSpec};
use tidegate_classifiers::verdict::Control;

use crate::error::{Problems, Wrong};
use crate::filter::Wanted;
use crate::names::Names;
use crate::place::Place;
use crate::slow;
use crate::words::quote;
use crate::{Block, Chain, Numbers};

/// Automatic priorities are multiples of this, so that there is room between them.
pub(crate) const PRIORITY_STEP: u32 = 10;

/// A block while its filters are read.
#[derive(Default)]
pub(crate) struct Draft {
    filters: Vec<FilterSpec>,
    numbers: Vec<Numbers>,
    /// Of each filter.
    places: Vec<Place>,
    /// Highest priority so far of each chain that a filter is in.
    chains: BTreeMap<u32, u32>,
    /// By chain and priority.
    protos: HashMap<(u32, u32), Proto>,
    filter_names: HashMap<String, Place>,
    gotos: Vec<(u32, Place)>,
}

/// What one priority of a chain holds.
struct Proto {
    protocol: u16,
    kind: KindName,
    place: Place,
    matches: HashMap<FlowerSpec, Place>,
    handles: HashMap<u32, Place>,
    /// No automatic handle is below it.
    next_handle: u32,
}

impl Draft {
    /// Adds a filter after those that are there.
    pub(crate) fn add(&mut self, wanted: Wanted, problems: &mut Problems) {
        let (place, chain) = (wanted.place, wanted.chain);
        let highest = self.chains.entry(chain).or_default();
        if let Some((name, place)) = &wanted.name {
            match self.filter_names.entry(name.clone()) {
                Entry::Occupied(first) => {
                    let wrong = Wrong::new(format!("name: {} is there already", quote(name)));
                    problems.push(*place, wrong.hint(format!("the first is at {}", problems.show(*first.get()))));
                }
                Entry::Vacant(entry) => _ = entry.insert(*place),
            }
        }
        for (action, place) in &wanted.actions {
            let controls = action.spec.iter().flat_map(|spec| spec.controls());
            self.gotos.extend(controls.filter_map(|control| match control {
                Control::Goto(chain) => Some((chain, *place)),
                _ => None,
            }));
        }

        let first = match wanted.priority {
            Some((priority, _)) => Some(priority),
            None => (*highest / PRIORITY_STEP + 1).checked_mul(PRIORITY_STEP),
        };
        let further = u32::from(wanted.kinds.len() > 1);
        let Some(last) = first.and_then(|first| first.checked_add(further)) else {
            let wrong = Wrong::new(format!("there is no priority after {highest}"));
            problems.push(place, wrong.hint("give the filters before it lower ones"));
            return;
        };
        let places = Places {
            filter: place,
            priority: wanted.priority.map_or(place, |(_, place)| place),
            handle: wanted.handle.map_or(place, |(_, place)| place),
        };
        let numbers = Numbers { priority: wanted.priority.is_some(), handle: wanted.handle.is_some() };
        *highest = last.max(*highest);
        for filter in wanted.specs(last - further) {
            let fits = match self.protos.entry((chain, filter.priority)) {
                Entry::Occupied(proto) => proto.into_mut().join(&filter, places, problems),
                Entry::Vacant(entry) => entry.insert(Proto::new(&filter, place)).enter(&filter, places, problems),
            };
            if !fits {
                // The same would be said of the IPv6 half.
                return;
            }
            self.filters.push(filter);
            self.numbers.push(numbers);
            self.places.push(place);
        }
    }

    /// Whether it has no filters.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// The block, with what had to wait for its last filter: gotos are checked, handles filled in.
    pub(crate) fn finish(mut self, name: String, names: &Names, problems: &mut Problems) -> Block {
        let mut chains: BTreeMap<u32, String> = self.chains.keys().map(|index| (*index, index.to_string())).collect();
        chains.extend(names.iter().map(|(name, index)| (index, name.to_owned())));
        for (chain, place) in self.gotos {
            if chain != 0 && !chains.contains_key(&chain) {
                let wrong = Wrong::missing(format!("goto {chain}: there is no such chain in block {}", quote(&name)));
                problems.push(place, wrong.hint(format!("put a filter in it, or name it in [block.{name}.chains]")));
            }
        }
        for filter in &mut self.filters {
            if let Some(proto) = self.protos.get_mut(&(filter.chain, filter.priority))
                && filter.handle == 0
            {
                filter.handle = proto.free_handle();
            }
        }
        slow::warn(&name, &self.filters, &self.places, problems);
        let chains = chains.into_iter().map(|(index, name)| Chain { index, name });
        Block { name, chains: chains.collect(), filters: self.filters, numbers: self.numbers }
    }
}

/// Where a filter's parts stand, or else the filter.
#[derive(Clone, Copy)]
struct Places {
    filter: Place,
    priority: Place,
    handle: Place,
}

impl Proto {
    fn new(first: &FilterSpec, place: Place) -> Self {
        Proto {
            protocol: first.protocol,
            kind: first.kind.name(),
            place,
            matches: HashMap::new(),
            handles: HashMap::new(),
            next_handle: 1,
        }
    }

    /// A further filter at this priority. False if it does not fit.
    fn join(&mut self, filter: &FilterSpec, places: Places, problems: &mut Problems) -> bool {
        let at = format!("priority {} of chain {}", filter.priority, filter.chain);
        let first = problems.show(self.place);
        let problem = if filter.protocol != self.protocol {
            format!("{at} is for another protocol") // [ER-5]
        } else if filter.kind.name() != self.kind {
            format!("{at} is for another kind") // [ER-6]
        } else if self.kind == KindName::Matchall {
            format!("{at} has a matchall filter already") // [MA-1]
        } else {
            return self.enter(filter, places, problems);
        };
        let hint = format!("take another priority, or none; the first filter there is at {first}");
        problems.push(places.priority, Wrong::new(problem).hint(hint));
        false
    }

    /// Notes handle and match of a filter. False if one of them is there already.
    fn enter(&mut self, filter: &FilterSpec, places: Places, problems: &mut Problems) -> bool {
        let mut fits = true;
        let at = format!("priority {} of chain {}", filter.priority, filter.chain);
        if filter.handle != 0
            && let Some(first) = self.handles.insert(filter.handle, places.filter)
        {
            let wrong = Wrong::new(format!("handle: {} is there already at {at}", filter.handle));
            problems.push(places.handle, wrong.hint(format!("the first is at {}", problems.show(first))));
            fits = false;
        }
        if let KindSpec::Flower(wanted) = &filter.kind {
            // [ER-3]: bits that the mask leaves out make no difference.
            let key = FlowerSpec { value: wanted.value.masked(&wanted.mask), ..**wanted };
            if let Some(first) = self.matches.insert(key, places.filter) {
                let wrong = Wrong::new(format!("the same match is there already at {at}"));
                problems.push(places.filter, wrong.hint(format!("the first is at {}", problems.show(first))));
                fits = false;
            }
        }
        fits
    }

    /// The lowest number from 1 that no filter has [HA-1].
    fn free_handle(&mut self) -> u32 {
        while self.handles.contains_key(&self.next_handle) {
            self.next_handle += 1;
        }
        self.next_handle += 1;
        self.next_handle - 1
    }
}
