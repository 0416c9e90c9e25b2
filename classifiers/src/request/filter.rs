//! Filters: new, delete, get.

use super::replay::Replay;
use super::{Cx, FilterId, FilterInfo, FilterKey, FilterSpec, Mode, check_chain, info};
use crate::block::Block;
use crate::chain::{Chain, ChainRef};
use crate::error::{Refusal, RequestError, Why};
use crate::event::Event;
use crate::inject::Point;
use crate::kind::{self, Change};
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
    if spec.priority == 0 && mode == Mode::Change {
        return Err(RequestError::NotFound("priority")); // [RQ-4]
    }
    let plane = block.plane();
    let mut replay = Replay::default();
    let result = loop {
        let cx = Cx::new(plane, replay.is_replay() || !kind::unlocked(spec.kind.name())); // [UL-2], [RP-1]
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
    let key = which.into();
    let flush = key.priority == 0;
    if flush && key != FilterKey::chain(key.chain) {
        return Err(RequestError::NotFound("priority"));
    }
    let plane = block.plane();
    plane.reaper().admit(); // [DD-7]
    let result = with_kind(block, flush || needs_global(&key), |cx| {
        check_chain(key.chain)?;
        match block.core().get(key.chain) {
            None if flush => Ok(()),
            None => Err(RequestError::NotFound("chain").into()),
            Some(chain) if flush => {
                chain.flush(cx, true);
                Ok(())
            }
            Some(chain) => delete(cx, &chain, &key),
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
    let key = which.into();
    if key.priority == 0 {
        return Err(RequestError::NotFound("priority")); // [RQ-4]
    }
    with_kind(block, needs_global(&key), |cx| {
        check_chain(key.chain)?;
        let chain = block.core().get(key.chain).ok_or(RequestError::Invalid("no such chain"))?;
        let proto = find(cx, &chain, &key)?;
        let filter = proto.kind().get(key.handle).ok_or(RequestError::NotFound("handle"))?;
        Ok(info((key.chain, proto.priority(), proto.protocol(), proto.kind().name()), &filter))
    })
}

/// Whether the named kind is one that needs the global lock. Without a name, the proto that is found decides.
fn needs_global(key: &FilterKey) -> bool {
    key.kind.is_some_and(|kind| !kind::unlocked(kind))
}

/// An attempt that found a locked kind without holding the global lock ends with this, and is made again with it [UL-3].
const NEEDS_GLOBAL: Refusal = Refusal::Again(Why::Locked);

/// Runs a request that never replays [FO-12], but with the global lock if it turns out to need it.
fn with_kind<T>(block: &Block, global: bool, run: impl Fn(&Cx<'_>) -> Result<T, Refusal>) -> Result<T, RequestError> {
    let result = run(&Cx::new(block.plane(), global));
    let result = if matches!(result, Err(NEEDS_GLOBAL)) { run(&Cx::new(block.plane(), true)) } else { result };
    result.map_err(|refusal| match refusal {
        Refusal::Final(error) => error,
        Refusal::Again(_) => unreachable!("with the global lock nothing is left to wait for"),
    })
}

/// The proto that `key` names [ER-15], [ER-16].
fn find<'c>(cx: &'c Cx<'c>, chain: &Chain, key: &FilterKey) -> Result<ProtoRef<'c>, Refusal> {
    let proto = chain.find(key.priority, cx).ok_or(RequestError::NotFound("priority"))?;
    check_protocol(&proto, key.protocol)?;
    if key.kind.is_some_and(|kind| kind != proto.kind().name()) {
        return Err(OTHER_KIND.into());
    }
    if !cx.may_use(proto.kind()) {
        return Err(NEEDS_GLOBAL);
    }
    Ok(proto)
}

const OTHER_KIND: RequestError = RequestError::Invalid("this priority has another kind");

/// Protocol 0 is whatever the proto has; `all` is a protocol like the others [RQ-6].
fn check_protocol(proto: &Proto, protocol: u16) -> Result<(), RequestError> {
    if protocol != 0 && protocol != proto.protocol() {
        return Err(RequestError::Invalid("this priority has another protocol"));
    }
    Ok(())
}

fn delete<'c>(cx: &'c Cx<'c>, chain: &ChainRef, key: &FilterKey) -> Result<(), Refusal> {
    let proto = find(cx, chain, key)?;
    if key.handle == 0 {
        return delete_proto(cx, chain, &proto);
    }
    loop {
        let filter = proto.kind().get(key.handle).ok_or(RequestError::NotFound("handle"))?;
        proto.kind().check_delete(&filter)?;
        let hub = cx.plane().hub();
        let mut event = hub.is_heard().then(|| {
            let proto = (key.chain, proto.priority(), proto.protocol(), proto.kind().name());
            Arc::new(Event::FilterDeleted { block: chain.core().id(), filter: info(proto, &filter) })
        });
        let mut tell = || event.take().into_iter().for_each(|event| hub.send(event));
        // Replaced since it was looked up: the new one is the one to delete [CC-10].
        let Some(deleted) = proto.kind().delete(cx, &filter, &mut tell) else { continue };
        let gone = deleted.last && chain.remove_if_empty(cx, proto.proto());
        if deleted.publish && !gone {
            chain.refresh(proto.proto());
        }
        cx.release(filter);
        return Ok(());
    }
}

/// Deletes a priority with all its filters [FO-10].
fn delete_proto<'c>(cx: &'c Cx<'c>, chain: &Chain, proto: &ProtoRef<'c>) -> Result<(), Refusal> {
    let mut guard = chain.lock();
    if !guard.lists(proto) || !proto.kind().retire_if_filters() {
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
    /// It was there. The chain reference is the request's.
    Found { _chain: ChainRef, proto: ProtoRef<'c> },
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
    let chain = block.core().get_or_create(spec.chain);
    let obtained = obtain(cx, chain, spec, mode)?;
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
    if let Some(proto) = chain.find(spec.priority, cx) {
        check_protocol(&proto, spec.protocol)?; // [ER-5]
        return Ok(Obtained::Found { _chain: chain, proto });
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
    let guard = shared.lock();
    if shared.core().is_dying((shared.index(), priority, spec.protocol)) {
        drop(guard); // the private proto goes after it
        return Err(Refusal::Again(Why::Dying)); // [TP-14]
    }
    if let Some(other) = guard.find(priority) {
        let other = ProtoRef::take(&other, cx);
        drop(guard);
        drop(private); // [TP-4]
        if automatic {
            return Err(Refusal::Again(Why::Priority)); // [PR-4]
        }
        check_protocol(&other, spec.protocol)?;
        return Ok(Obtained::Adopted { proto: other }); // [TP-5]
    }
    if shared.is_flushing() {
        drop(guard);
        return Err(Refusal::Again(Why::Flushing));
    }
    let mut guard = guard;
    private.count_list();
    guard.link(&private);
    drop(guard);
    Ok(Obtained::Created { proto: private })
}

/// The filter into its proto [FO-1].
fn change(cx: &Cx<'_>, proto: &ProtoRef<'_>, spec: &FilterSpec, mode: Mode) -> Result<u32, Refusal> {
    let chain = proto.chain();
    if spec.kind.name() != proto.kind().name() {
        return Err(OTHER_KIND.into()); // [ER-6]: before handles are looked at [RQ-8]
    }
    let old = if spec.handle == 0 { None } else { proto.kind().get(spec.handle) };
    match (&old, mode) {
        (None, Mode::Change) => return Err(RequestError::NotFound("handle").into()), // [ER-1]
        (Some(_), Mode::Add) => return Err(RequestError::Exists("this handle").into()), // [ER-2]
        _ => {}
    }
    let template = chain.core().template(chain);
    if template.as_ref().is_some_and(|template| template.spec.name() != spec.kind.name()) {
        return Err(RequestError::Invalid("the chain's template has another kind").into()); // [ER-10]
    }
    let (priority, protocol) = (proto.priority(), proto.protocol());
    let change = Change { cx, chain, priority, protocol, spec, mode, template };
    let changed = proto.kind().change(&change, old)?;
    if changed.publish {
        chain.refresh(proto.proto());
    }
    if let Some(old) = changed.old {
        cx.release(old);
    }
    Ok(changed.handle)
}
