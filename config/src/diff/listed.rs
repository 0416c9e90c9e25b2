//! Listings of a gateway, as they come over the control socket, for comparison.

use serde_json::{Map, Value as Json};
use tidegate_classifiers::counters::Hits;
use tidegate_classifiers::request::{
    ActionInfo, ActionSpec, ActionUse, ChainInfo, FilterInfo, FilterSpec, GactSpec, Owner,
};
use tidegate_classifiers::verdict::Control;

use crate::error::ConfigErrors;
use crate::json;
use crate::names::Scope;

/// A filter of a listing, without what it did; nothing if it is for both IPv4 and IPv6, as listed filters are not.
///
/// # Errors
/// Everything that is wrong with it.
pub fn listed_filter(mut filter: Json, scope: Scope<'_>) -> Result<Option<FilterInfo>, ConfigErrors> {
    let mut indexes = Vec::new();
    let mut owner = Owner::Client;
    if let Some(table) = filter.as_object_mut() {
        owner = take_owner(table);
        for action in table.get_mut("actions").and_then(Json::as_array_mut).into_iter().flatten() {
            let table = action.as_object_mut();
            let number = |value: Option<&Json>| value.and_then(Json::as_u64).and_then(|n| u32::try_from(n).ok());
            let stats = table.and_then(|table| table.remove("stats"));
            let index = number(action.get("index")).unwrap_or(0);
            indexes.push((index, number(stats.as_ref().and_then(|stats| stats.get("ref"))).unwrap_or(1)));
        }
    }
    let specs = json::filter(filter, scope)?;
    Ok(<[FilterSpec; 1]>::try_from(specs).ok().map(|[spec]| info(spec, owner, &indexes)))
}

/// A chain of a listing.
///
/// # Errors
/// Everything that is wrong with it.
pub fn listed_chain(mut chain: Json, scope: Scope<'_>) -> Result<ChainInfo, ConfigErrors> {
    let owner = chain.as_object_mut().map_or(Owner::Client, take_owner);
    let spec = json::chain(chain, scope)?;
    Ok(ChainInfo { index: spec.index, owner, template: spec.template })
}

/// Takes out what requests do not have.
fn take_owner(table: &mut Map<String, Json>) -> Owner {
    table.remove("on");
    let stats = table.remove("stats");
    match stats.as_ref().and_then(|stats| stats.get("owner")).and_then(Json::as_str) {
        Some("configuration") => Owner::Configuration,
        _ => Owner::Client,
    }
}

fn info(spec: FilterSpec, owner: Owner, indexes: &[(u32, u32)]) -> FilterInfo {
    let FilterSpec { chain, priority, protocol, handle, kind, actions, name, options } = spec;
    let actions =
        actions.iter().zip(indexes).map(|(ActionUse { spec, cookie, flags, .. }, &(index, refs))| ActionInfo {
            spec: spec.clone().unwrap_or(ActionSpec::Gact(GactSpec { control: Control::Ok, random: None })),
            index,
            refs,
            binds: refs,
            cookie: *cookie,
            flags: *flags,
            hits: Hits::default(),
        });
    let hits = Hits::default();
    let actions = actions.collect();
    let kind_name = kind.name().as_str();
    FilterInfo {
        chain,
        priority,
        protocol,
        kind: kind_name,
        handle,
        owner,
        name,
        matches: kind,
        hits,
        runs: 0,
        actions,
        options,
    }
}
