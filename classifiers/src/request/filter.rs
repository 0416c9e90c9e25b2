//! Filters: new, delete, get.

use super::KindName;
use super::replay::Replay;
use super::{Cx, FilterId, FilterInfo, FilterKey, FilterSpec, Mode, Owner, check_chain, settled};
use crate::block::Block;
use crate::chain::{Chain, ChainRef};
use crate::error::{Refusal, RequestError, Why};
use crate::event::Event;
use crate::filter::Filter;
use crate::inject::Point;
use crate::kind::{self, Change};
use crate::ledger::By;
use crate::proto::{Proto, ProtoRef};
use crate::sync::Arc;

/// Adds a filter, with its chain and its priority where they are new: [`new_filter`] with [`Mode::Add`].
///
/// # Errors
/// As [`new_filter`].
pub fn add_filter(block: &Arc<Block>, spec: &FilterSpec) -> Result<FilterId, RequestError> {
    new_filter(block, spec, Mode::Add)
}

/// Adds, replaces or changes a filter, with its chain and its priority where they are new. When this returns, workers see
/// it from their next burst on [DV-1].
///
/// # Errors
/// `Invalid` if the specification contradicts itself, its priority's protocol or kind, the chain's template, or the mask of
/// the filter that it would replace; `Exists` if the priority has the handle, the flower key, or its one matchall filter;
/// `NotFound` for a change of what is not there, and for a new priority of an unknown kind; `NoSpace` if no automatic number
/// is left; `Busy` if another request on the same priority did not end for 10 s. Nothing changed then [ER-40].
pub fn new_filter(block: &Arc<Block>, spec: &FilterSpec, mode: Mode) -> Result<FilterId, RequestError> {
    make(None, Owner::Client, block, spec, mode)
}

/// Adds a filter that is the configuration's, where packets do not matter yet: a gateway that runs does it in a transaction.
///
/// # Errors
/// As [`new_filter`].
pub fn configure_filter(block: &Arc<Block>, spec: &FilterSpec) -> Result<FilterId, RequestError> {
    make(None, Owner::Configuration, block, spec, Mode::Add)
}

pub(crate) fn make(
    by: By<'_>,
    owner: Owner,
    block: &Arc<Block>,
    spec: &FilterSpec,
    mode: Mode,
) -> Result<FilterId, RequestError> {
    if spec.priority == 0 && mode == Mode::Change {
        return Err(RequestError::NotFound("priority")); // [RQ-4]
    }
    let plane = block.plane();
    let mut replay = Replay::default();
    let result = loop {
        let global = replay.is_replay() || !kind::unlocked(spec.kind.name()); // [UL-2], [RP-1]
        let cx = Cx::new(plane, global).on_behalf(by).owned_by(owner);
        let attempt = attempt(&cx, block, spec, mode); // with fresh locals [TP-12]
        drop(cx);
        match attempt {
            Ok(id) => break Ok(id),
            Err(Refusal::Final(error)) => break Err(error),
            Err(Refusal::Again(why)) => {
                let _ = plane.at(Point::Replay);
                if let Err(error) = replay.back_off(block.core(), why) {
                    break Err(error);
                }
            }
        }
    };
    plane.reaper().relieve();
    result
}

/// Deletes a filter; all filters of a priority, for handle 0; all filters of a chain, for priority 0. The priority and the
/// chain go too where they have no other reason to be. Packets already in a worker's hand may still match for one burst
/// [DV-2].
///
/// # Errors
/// `NotFound` if there is no such chain, priority or handle, or something but the chain is given with priority 0 [ER-12],
/// [ER-15], [RQ-4]; `Invalid` if the priority has another protocol or kind [ER-16]. An absent chain can be flushed [ER-14].
pub fn delete_filter(block: &Arc<Block>, which: impl Into<FilterKey>) -> Result<(), RequestError> {
    remove(None, block, which.into())
}

pub(crate) fn remove(by: By<'_>, block: &Arc<Block>, key: FilterKey) -> Result<(), RequestError> {
    let flush = key.priority == 0;
    if flush && key != FilterKey::chain(key.chain) {
        return Err(RequestError::NotFound("priority"));
    }
    let plane = block.plane();
    plane.reaper().admit(); // [DD-7]
    let result = with_kind(by, block, flush || needs_global(&key), |cx| {
        check_chain(key.chain)?;
        let at_hand = if flush { None } else { block.core().at_hand(key.chain, key.priority, cx) };
        if let Some(proto) = at_hand.filter(|proto| proto.chain().is_announced()) {
            return delete(cx, usable(cx, proto, &key)?, &key);
        }
        match block.core().get(key.chain, by) {
            None if flush => Ok(()),
            None => Err(RequestError::NotFound("chain").into()),
            Some(chain) if flush => self::flush(cx, &chain),
            Some(chain) => delete(cx, find(cx, &chain, &key)?, &key),
        }
    });
    plane.reaper().relieve();
    result
}

/// The filter with exactly this key [FO-11].
///
/// # Errors
/// `Invalid` if there is no such chain [ER-13], or the priority has another protocol or kind; `NotFound` if there is no such
/// priority or handle.
pub fn get_filter(block: &Arc<Block>, which: impl Into<FilterKey>) -> Result<FilterInfo, RequestError> {
    get(None, block, which.into())
}

pub(crate) fn get(by: By<'_>, block: &Arc<Block>, key: FilterKey) -> Result<FilterInfo, RequestError> {
    if key.priority == 0 {
        return Err(RequestError::NotFound("priority")); // [RQ-4]
    }
    with_kind(by, block, needs_global(&key), |cx| {
        check_chain(key.chain)?;
        let chain = block.core().get(key.chain, by).ok_or(RequestError::Invalid("no such chain"))?;
        let proto = find(cx, &chain, &key)?;
        let filter = proto.kind().get(by, key.handle).ok_or(RequestError::NotFound("handle"))?;
        Ok(proto.filter_info(&filter))
    })
}

/// Whether the named kind is one that needs the global lock. Without a name, the proto that is found decides.
fn needs_global(key: &FilterKey) -> bool {
    key.kind.is_some_and(|kind| !kind::unlocked(kind))
}

/// An attempt that found a locked kind without holding the global lock ends with this, and is made again with it [UL-3].
const NEEDS_GLOBAL: Refusal = Refusal::Again(Why::Locked);

/// Runs a request that never replays [FO-12], but with the global lock if it turns out to need it: for a locked kind, or to
/// wait for a commit.
fn with_kind<T>(
    by: By<'_>,
    block: &Block,
    global: bool,
    run: impl Fn(&Cx<'_>) -> Result<T, Refusal>,
) -> Result<T, RequestError> {
    let run = |global| run(&Cx::new(block.plane(), global).on_behalf(by));
    let result = run(global);
    settled(if matches!(result, Err(Refusal::Again(_))) { run(true) } else { result })
}

/// The proto that `key` names [ER-15], [ER-16].
fn find<'c>(cx: &'c Cx<'c>, chain: &Chain, key: &FilterKey) -> Result<ProtoRef<'c>, Refusal> {
    usable(cx, chain.find(key.priority, cx).ok_or(ABSENT)?, key)
}

const ABSENT: RequestError = RequestError::NotFound("priority");

/// The proto, if it is what `key` says, and may be used as things are.
fn usable<'c>(cx: &'c Cx<'c>, proto: ProtoRef<'c>, key: &FilterKey) -> Result<ProtoRef<'c>, Refusal> {
    if let Err(error) = check(&proto, key.protocol, key.kind) {
        return Err(if proto.kind().has_filters(cx.by()) { error } else { ABSENT }.into());
    }
    if !cx.may_use(proto.kind()) {
        return Err(NEEDS_GLOBAL);
    }
    Ok(proto)
}

/// Protocol 0 is whatever the proto has; `all` is a protocol like the others [RQ-6]. The kind is the proto's, if it is given
/// [RQ-8].
fn check(proto: &Proto, protocol: u16, kind: Option<KindName>) -> Result<(), RequestError> {
    if protocol != 0 && protocol != proto.protocol() {
        return Err(RequestError::Invalid("this priority has another protocol"));
    }
    if kind.is_some_and(|kind| kind != proto.kind().name()) {
        return Err(RequestError::Invalid("this priority has another kind"));
    }
    Ok(())
}

fn delete<'c>(cx: &'c Cx<'c>, proto: ProtoRef<'c>, key: &FilterKey) -> Result<(), Refusal> {
    let chain = proto.chain();
    check_staged(cx, proto.kind().name())?;
    if key.handle == 0 && cx.by().is_some() {
        let some = delete_each(cx, chain, &proto)?;
        return some.then_some(()).ok_or(RequestError::NotFound("priority").into());
    }
    if key.handle == 0 {
        return delete_proto(cx, chain, &proto);
    }
    loop {
        let filter = proto.kind().get(cx.by(), key.handle).ok_or(RequestError::NotFound("handle"))?;
        // Replaced since it was looked up: the new one is the one to delete [CC-10].
        if delete_one(cx, chain, &proto, &filter)? {
            return Ok(());
        }
    }
}

/// `false` if another request was faster.
fn delete_one(cx: &Cx<'_>, chain: &Chain, proto: &Arc<Proto>, filter: &Arc<Filter>) -> Result<bool, Refusal> {
    proto.kind().check_delete(filter)?;
    let hub = cx.plane().hub();
    let mut event = (cx.by().is_none() && hub.is_heard())
        .then(|| Arc::new(Event::FilterDeleted { block: chain.core().id(), filter: proto.filter_info(filter) }));
    let mut tell = || event.take().into_iter().for_each(|event| hub.send(event));
    let Some(deleted) = proto.kind().delete(cx, proto, filter, &mut tell)? else { return Ok(false) };
    chain.follow(cx, proto, deleted);
    Ok(true)
}

/// Deletes all filters of a chain.
pub(super) fn flush(cx: &Cx<'_>, chain: &Chain) -> Result<(), Refusal> {
    if cx.by().is_none() {
        chain.flush(cx, true);
        return Ok(());
    }
    let protos = chain.lock().all();
    protos
        .iter()
        .filter_map(|proto| ProtoRef::try_take(proto, cx))
        .try_for_each(|proto| delete_each(cx, chain, &proto).map(drop))
}

/// Prepares the deletion of every filter of a proto, one by one: what comes meanwhile stays [TX-9]. Returns whether there was
/// one.
fn delete_each(cx: &Cx<'_>, chain: &Chain, proto: &ProtoRef<'_>) -> Result<bool, Refusal> {
    check_staged(cx, proto.kind().name())?;
    let (mut position, mut some) = (None, false);
    loop {
        let page = proto.kind().page(cx.by(), position, 256);
        let Some((last, _)) = page.last() else { return Ok(some) };
        position = Some(*last);
        for (_, filter) in page {
            some |= delete_one(cx, chain, proto, &filter)?;
        }
    }
}

/// Whether filters of this kind can be part of a transaction, if there is one [TX-12].
fn check_staged(cx: &Cx<'_>, kind: KindName) -> Result<(), RequestError> {
    if cx.by().is_some() && !kind::staged(kind) {
        return Err(RequestError::Unsupported("transactions with filters of this kind"));
    }
    Ok(())
}

/// Deletes a priority with all its filters [FO-10].
fn delete_proto<'c>(cx: &'c Cx<'c>, chain: &Chain, proto: &ProtoRef<'c>) -> Result<(), Refusal> {
    let mut guard = chain.lock();
    if !guard.lists(proto) || !proto.kind().retire_if_filters()? {
        return Err(RequestError::NotFound("priority").into()); // another request was faster, or none of its filters is ready
    }
    guard.unlink(proto);
    chain.core().tell(|block| Event::ProtoDeleted { block, proto: proto.info() }); // before another may come [NT-5]
    drop(guard);
    drop(ProtoRef::of_list(Arc::clone(proto), cx));
    Ok(())
}

/// How a request for a new filter came to its proto. It decides who gives the chain back: a request has a chain reference
/// until it builds a proto, which owns it from then on [TP-6]. And who may take the proto out again after a failure
/// [TP-9].
enum Obtained<'c> {
    /// It was there. The chain reference, if it took one to find it, is the request's.
    Found { _chain: Option<ChainRef>, proto: ProtoRef<'c> },
    /// Built and listed by this request; the chain reference is the proto's.
    Created { proto: ProtoRef<'c> },
    /// Somebody else's, who was faster. The one built by this request is gone, and with it the chain reference.
    Adopted { proto: ProtoRef<'c> },
}

impl<'c> Obtained<'c> {
    fn proto(&self) -> &ProtoRef<'c> {
        match self {
            Obtained::Found { proto, .. } | Obtained::Created { proto } | Obtained::Adopted { proto } => proto,
        }
    }

    /// After a failure: no empty proto stays [TP-10]. A kind that cannot tell by itself that it is empty may be taken out
    /// only by who created it.
    fn clean_up(&self, cx: &Cx<'_>) {
        let proto = self.proto();
        if matches!(self, Obtained::Created { .. }) || proto.kind().unlocked() {
            proto.chain().remove_if_empty(cx, proto.proto());
        }
    }
}

fn attempt(cx: &Cx<'_>, block: &Block, spec: &FilterSpec, mode: Mode) -> Result<FilterId, Refusal> {
    check_chain(spec.chain)?;
    check_staged(cx, spec.kind.name())?;
    let obtained = match block.core().at_hand(spec.chain, spec.priority, cx) {
        Some(proto) if fits(cx, &proto, spec, false)? => Obtained::Found { _chain: None, proto },
        _ => obtain(cx, block.core().get_or_create(spec.chain), spec, mode)?,
    };
    let proto = obtained.proto();
    let changed =
        cx.plane().at(Point::ProtoObtained).map_err(Refusal::from).and_then(|()| change(cx, proto, spec, mode));
    match changed {
        Ok(handle) => {
            let _ = cx.plane().at(Point::Committed);
            Ok(FilterId { chain: spec.chain, priority: proto.priority(), handle })
        }
        Err(refusal) => {
            obtained.clean_up(cx);
            Err(refusal)
        }
    }
}

/// The proto that the filter goes into: found, or created [TP-3].
fn obtain<'c>(cx: &'c Cx<'c>, chain: ChainRef, spec: &FilterSpec, mode: Mode) -> Result<Obtained<'c>, Refusal> {
    let automatic = spec.priority == 0;
    if cx.by().is_none() {
        chain.take_over(cx, spec.priority)?;
    }
    if let Some(proto) = chain.find(spec.priority, cx)
        && fits(cx, &proto, spec, false)?
    {
        return Ok(Obtained::Found { _chain: Some(chain), proto });
    }
    let priority = if automatic { chain.lock().automatic_priority()? } else { spec.priority };
    if chain.is_flushing() {
        return Err(Refusal::Again(Why::Flushing)); // saves the work; checked again below [CH-10]
    }
    if spec.protocol == 0 {
        return Err(RequestError::Invalid("a new priority needs a protocol").into()); // [ER-8], [RQ-7]
    }
    if mode == Mode::Change {
        return Err(RequestError::NotFound("priority").into()); // [ER-1]
    }

    let shared = Arc::clone(chain.chain()); // memory only; the reference goes with the proto
    let private = Proto::build(cx, chain, priority, spec.protocol, spec.kind.name())?;
    cx.plane().at(Point::ProtoBuilt)?;
    let mut guard = shared.lock();
    if shared.core().is_dying((shared.index(), priority, spec.protocol)) {
        drop(guard); // the private proto goes after it
        return Err(Refusal::Again(Why::Dying)); // [TP-14]
    }
    let other = guard.find(priority, cx.by());
    if let Some(other) = &other {
        match fits(cx, other, spec, true) {
            Ok(false) => {}
            fits => {
                let other = ProtoRef::take(other, cx);
                drop(guard);
                drop(private); // [TP-4]
                if automatic {
                    return Err(Refusal::Again(Why::Priority)); // [PR-4]
                }
                fits?;
                return Ok(Obtained::Adopted { proto: other }); // [TP-5]
            }
        }
    }
    let taken = guard.last(priority).is_some_and(|last| !last.is_seen(cx.by()));
    if taken || shared.is_flushing() {
        drop(guard);
        return Err(match cx.by() {
            Some(_) if taken => RequestError::Busy("another transaction has prepared this priority").into(), // [TX-7]
            _ if taken => Refusal::Again(Why::Priority),
            _ => Refusal::Again(Why::Flushing),
        });
    }
    private.count_list();
    guard.link(&private);
    drop(guard);
    if let Some(superseded) = other {
        shared.remove_if_empty(cx, &superseded); // of what others had prepared in it, nothing is left
    }
    Ok(Obtained::Created { proto: private })
}

/// Whether the filter goes into `proto`; `false` if another proto is to be made in its place, which nobody can do after that if
/// it is `now` [TX-8].
///
/// # Errors
/// `Invalid` if it has another protocol [ER-5] or kind [ER-6]: before handles are looked at [RQ-8].
fn fits(cx: &Cx<'_>, proto: &Proto, spec: &FilterSpec, now: bool) -> Result<bool, Refusal> {
    match check(proto, spec.protocol, Some(spec.kind.name())) {
        Err(error) if !proto.kind().supersede(cx, now)? => Err(error.into()),
        checked => Ok(checked.is_ok()),
    }
}

/// The filter into its proto [FO-1].
fn change(cx: &Cx<'_>, proto: &ProtoRef<'_>, spec: &FilterSpec, mode: Mode) -> Result<u32, Refusal> {
    let chain = proto.chain();
    let old = if spec.handle == 0 { None } else { proto.kind().get(cx.by(), spec.handle) };
    match (&old, mode) {
        (None, Mode::Change) => return Err(RequestError::NotFound("handle").into()), // [ER-1]
        (Some(_), Mode::Add) => return Err(RequestError::Exists("this handle").into()), // [ER-2]
        _ => {}
    }
    let template = chain.core().template(chain, cx.by());
    if template.as_ref().is_some_and(|template| template.spec.name() != spec.kind.name()) {
        return Err(RequestError::Invalid("the chain's template has another kind").into()); // [ER-10]
    }
    let kept = old.as_ref().map(|old| old.owner()).filter(|&owner| owner == Owner::Configuration);
    let change = Change { cx, proto, spec, mode, owner: kept.unwrap_or(cx.owner()), template };
    let changed = proto.kind().change(&change, old)?;
    // What a transaction has prepared is published by its commit, unless something that may be published was taken back.
    if changed.publish && (cx.by().is_none() || changed.old.is_some()) {
        chain.refresh([proto.proto()]);
    }
    if let Some(old) = changed.old {
        cx.release(old);
    }
    Ok(changed.handle)
}
