//! Session: the requests of one client.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::plane::Direction;
use tidegate_classifiers::request::{
    self, ActionKind, ActionUse, ChainSpec, DumpFilter, FilterId, FilterKey, FilterSpec, Mode,
};
use tidegate_classifiers::transaction::{Conflict, Transaction};
use tidegate_client::wire::{self, BlockName, Page, Record, Refusal, Reply, Request};
use tidegate_config::{ConfigErrors, Scope, json, show};

use super::Service;
use super::directory::Access;

/// Records on a page, if the client does not say how many, and at most.
const PAGE: usize = 256;
const PAGE_MAX: usize = 1024;

/// The requests of one client, and the transaction that it has begun. Dropped, the session aborts that.
pub(super) struct Session<'c> {
    service: &'c Service,
    transaction: Option<Transaction>,
    /// Whether a request was refused since [`Request::UntilRefused`]; none before the first of these.
    refused: Option<bool>,
}

impl<'c> Session<'c> {
    pub(super) fn new(service: &'c Service) -> Session<'c> {
        Session { service, transaction: None, refused: None }
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Does what `request` asks.
    ///
    /// # Errors
    /// Why not: nothing changed then.
    pub(super) fn serve(&mut self, request: Request) -> Result<Reply, Refusal> {
        let begins = matches!(request, Request::UntilRefused {});
        let result = match self.refused {
            Some(true) if !begins => Err(Refusal::new("ECANCELED", "a request before it was refused")),
            _ => self.serve_one(request),
        };
        if let (Some(refused), Err(_)) = (&mut self.refused, &result) {
            *refused = true;
        }
        result
    }

    fn serve_one(&mut self, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::UntilRefused {} => {
                self.refused = Some(false);
                Ok(Reply::Done)
            }
            Request::Status {} => Ok(Reply::Status(Box::new(self.service.gateway()?.status()))),
            Request::RestartWorker { worker } => {
                self.service.gateway()?.restart_worker(worker)?;
                Ok(Reply::Done)
            }
            Request::Reload { confirm_s } => {
                self.outside_transactions()?;
                self.service.gateway()?.desk()?.reload(confirm_s.map(Duration::from_secs)).map(Reply::Reloaded)
            }
            Request::Confirm {} => self.service.gateway()?.desk()?.confirm().map(|()| Reply::Done),
            Request::Settings {} => Ok(Reply::Settings(self.service.gateway()?.desk()?.settings())),
            Request::AddFilter { filter } => self.new_filter(filter, Mode::Add),
            Request::ReplaceFilter { filter } => self.new_filter(filter, Mode::Replace),
            Request::ChangeFilter { filter } => self.new_filter(filter, Mode::Change),
            Request::DeleteFilter { filter } => self.delete_filter(filter),
            Request::GetFilter { filter } => self.get_filter(filter),
            Request::DumpFilters { filter, after, max } => self.dump_filters(filter, after.as_deref(), max),
            Request::AddChain { chain } => self.add_chain(chain),
            Request::ChangeChain { chain } => self.change_chain(chain),
            Request::DeleteChain { chain } => self.delete_chain(chain),
            Request::GetChain { chain } => self.get_chain(chain),
            Request::DumpChains { on, after, max } => self.dump_chains(&on, after.as_deref(), max),
            Request::AddActions { actions } => self.new_actions(actions, Mode::Add),
            Request::ReplaceActions { actions } => self.new_actions(actions, Mode::Replace),
            Request::DeleteActions { actions } => self.delete_actions(actions),
            Request::GetAction { action } => self.get_action(action),
            Request::FlushActions { kind } => self.flush_actions(&kind),
            Request::DumpActions { kind, after, max } => self.dump_actions(&kind, after.as_deref(), max),
            Request::Bind { port, ingress, egress } => self.bind(&port, ingress, egress),
            Request::Unbind { port } => self.unbind(&port),
            Request::DumpBlocks {} => Ok(Reply::Blocks(self.service.directory.blocks())),
            Request::Begin {} => self.begin(),
            Request::Commit {} => self.commit(),
            Request::Abort {} => self.abort(),
            // Elsewhere it is the end of requests.
            Request::Subscribe {} | Request::SubscribeSamples { .. } => {
                Err(Refusal::new("EBUSY", "there is a transaction: commit or abort it first"))
            }
        }
    }

    fn new_filter(&self, filter: Value, mode: Mode) -> Result<Reply, Refusal> {
        let (_, block, specs) = self.read(filter, Access::Change, json::filter)?;
        let ids = match (&self.transaction, &specs[..]) {
            (None, [spec]) => vec![request::new_filter(&block, spec, mode).map_err(refusal)?],
            // For IPv4 and IPv6: both or none.
            (None, specs) => {
                let transaction = self.service.plane.begin();
                let ids = new_filters(&transaction, &block, specs, mode).map_err(refusal)?;
                transaction.commit().map_err(conflict)?;
                ids
            }
            (Some(transaction), specs) => new_filters(transaction, &block, specs, mode).map_err(refusal)?,
        };
        Ok(Reply::Filters(ids.into_iter().map(place).collect()))
    }

    fn delete_filter(&self, filter: Value) -> Result<Reply, Refusal> {
        let (_, block, key) = self.read(filter, Access::Change, json::filter_key)?;
        let deleted = match &self.transaction {
            Some(transaction) => transaction.delete_filter(&block, key),
            None => request::delete_filter(&block, key),
        };
        deleted.map(|()| Reply::Done).map_err(refusal)
    }

    fn get_filter(&self, filter: Value) -> Result<Reply, Refusal> {
        let (on, block, key) = self.read(filter, Access::Look, json::filter_key)?;
        let info = match &self.transaction {
            Some(transaction) => transaction.get_filter(&block, key),
            None => request::get_filter(&block, key),
        };
        let (info, now_ns) = (info.map_err(refusal)?, self.service.now_ns());
        let filter = self.service.directory.with_ports(|ports| show::filter(&info, ports, now_ns));
        Ok(Reply::Filter(placed(&on, filter)))
    }

    fn dump_filters(&self, filter: Value, after: Option<&str>, max: Option<usize>) -> Result<Reply, Refusal> {
        let of_chain = filter.get("chain").is_some();
        let (on, block, key) = self.read(filter, Access::Look, json::filter_key)?;
        if key.handle != 0 || key.kind.is_some() {
            return Err(Refusal::new("EINVAL", "a listing is by chain, priority and protocol only"));
        }
        let FilterKey { chain, priority, protocol, .. } = key;
        let wanted = DumpFilter { chain: of_chain.then_some(chain), priority, protocol };
        let (mut cursor, max) = (read_cursor::<request::Cursor>(after)?, page_size(max));
        let page = match &self.transaction {
            Some(transaction) => transaction.dump_page(&block, &wanted, &mut cursor, max),
            None => request::dump_page(&block, &wanted, &mut cursor, max),
        };
        let page = page.map_err(refusal)?;
        let now_ns = self.service.now_ns();
        let records = self.service.directory.with_ports(|ports| {
            page.iter()
                .map(|record| match record {
                    request::Record::Proto(info) => Record::Proto(placed(&on, show::proto(info))),
                    request::Record::Filter(info) => Record::Filter(placed(&on, show::filter(info, ports, now_ns))),
                })
                .collect()
        });
        Ok(Reply::FilterPage(Page { records, next: (page.len() == max).then(|| cursor.to_string()) }))
    }

    fn add_chain(&self, chain: Value) -> Result<Reply, Refusal> {
        let (_, block, spec) = self.read(chain, Access::Change, json::chain)?;
        let added = match &self.transaction {
            Some(transaction) => transaction.add_chain(&block, spec),
            None => request::add_chain(&block, spec),
        };
        added.map(|()| Reply::Done).map_err(refusal)
    }

    fn change_chain(&self, chain: Value) -> Result<Reply, Refusal> {
        let (_, block, spec) = self.read(chain, Access::Change, json::chain)?;
        request::change_chain(&block, spec).map(|()| Reply::Done).map_err(refusal)
    }

    fn delete_chain(&self, chain: Value) -> Result<Reply, Refusal> {
        let (_, block, index) = self.read(chain, Access::Change, chain_index)?;
        let deleted = match &self.transaction {
            Some(transaction) => transaction.delete_chain(&block, index),
            None => request::delete_chain(&block, index),
        };
        deleted.map(|()| Reply::Done).map_err(refusal)
    }

    fn get_chain(&self, chain: Value) -> Result<Reply, Refusal> {
        let (on, block, index) = self.read(chain, Access::Look, chain_index)?;
        let info = request::get_chain(&block, index).map_err(refusal)?;
        Ok(Reply::Chain(placed(&on, self.service.directory.with_ports(|ports| show::chain(&info, ports)))))
    }

    fn dump_chains(&self, on: &BlockName, after: Option<&str>, max: Option<usize>) -> Result<Reply, Refusal> {
        let (block, ()) = self.service.directory.find(on, Access::Look, |_| Ok(()))?;
        let (mut cursor, max) = (read_cursor::<request::ChainCursor>(after)?, page_size(max));
        let on = self.name(on, &block);
        let page = request::dump_chains(&block, &mut cursor, max);
        let shown = |ports: &_| page.iter().map(|info| placed(&on, show::chain(info, ports))).collect();
        let records = self.service.directory.with_ports(shown);
        Ok(Reply::ChainPage(Page { records, next: (page.len() == max).then(|| cursor.to_string()) }))
    }

    fn new_actions(&self, actions: Value, mode: Mode) -> Result<Reply, Refusal> {
        self.outside_transactions()?;
        let read = |ports: &_| json::actions(actions, Scope { ports, chains: None });
        let wanted: Vec<ActionUse> = self.service.directory.with_ports(read).map_err(wrong)?;
        request::add_actions(&self.service.plane, &wanted, mode).map(Reply::Indexes).map_err(refusal)
    }

    fn delete_actions(&self, actions: Vec<Value>) -> Result<Reply, Refusal> {
        self.outside_transactions()?;
        let which = actions.into_iter().map(json::action_key).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        request::delete_actions(&self.service.plane, &which).map(|()| Reply::Done).map_err(refusal)
    }

    fn get_action(&self, action: Value) -> Result<Reply, Refusal> {
        let (kind, index) = json::action_key(action).map_err(wrong)?;
        let info = request::get_action(&self.service.plane, kind, index).map_err(refusal)?;
        let now_ns = self.service.now_ns();
        Ok(Reply::Action(self.service.directory.with_ports(|ports| show::action(&info, ports, now_ns))))
    }

    fn flush_actions(&self, kind: &str) -> Result<Reply, Refusal> {
        self.outside_transactions()?;
        request::flush_actions(&self.service.plane, action_kind(kind)?).map(Reply::Flushed).map_err(refusal)
    }

    fn dump_actions(&self, kind: &str, after: Option<&str>, max: Option<usize>) -> Result<Reply, Refusal> {
        let (kind, after, max) = (action_kind(kind)?, read_cursor::<u32>(after)?, page_size(max));
        let page = request::dump_actions(&self.service.plane, kind, after, max);
        let now_ns = self.service.now_ns();
        let shown = |ports: &_| page.iter().map(|info| show::action(info, ports, now_ns)).collect();
        let records = self.service.directory.with_ports(shown);
        let last = page.last().filter(|_| page.len() == max);
        Ok(Reply::ActionPage(Page { records, next: last.map(|info| info.index.to_string()) }))
    }

    fn bind(&self, port: &str, ingress: Option<u32>, egress: Option<u32>) -> Result<Reply, Refusal> {
        self.outside_transactions()?;
        let blocks = [(Direction::Ingress, ingress), (Direction::Egress, egress)];
        self.service.directory.bind(port, blocks, self.service.gateway.as_deref()).map(|()| Reply::Done)
    }

    fn unbind(&self, port: &str) -> Result<Reply, Refusal> {
        self.outside_transactions()?;
        self.service.directory.unbind(port, self.service.gateway.as_deref()).map(|()| Reply::Done)
    }

    fn begin(&mut self) -> Result<Reply, Refusal> {
        if self.is_in_transaction() {
            return Err(Refusal::new("EBUSY", "there is a transaction already"));
        }
        self.transaction = Some(self.service.plane.begin());
        Ok(Reply::Done)
    }

    fn commit(&mut self) -> Result<Reply, Refusal> {
        let transaction = self.transaction.take().ok_or_else(no_transaction)?;
        transaction.commit().map(|generation| Reply::Committed(generation.number())).map_err(conflict)
    }

    fn abort(&mut self) -> Result<Reply, Refusal> {
        self.transaction.take().ok_or_else(no_transaction)?.abort();
        Ok(Reply::Done)
    }

    /// What takes effect at once has no place between `begin` and `commit`.
    fn outside_transactions(&self) -> Result<(), Refusal> {
        match self.transaction {
            Some(_) => Err(Refusal::new("EOPNOTSUPP", "filters and chains only, in a transaction")),
            None => Ok(()),
        }
    }

    /// The block that `table` says it is `on`, its name, and what the rest of the table says.
    fn read<T>(
        &self,
        mut table: Value,
        access: Access,
        rest: impl FnOnce(Value, Scope<'_>) -> Result<T, ConfigErrors>,
    ) -> Result<(BlockName, Arc<Block>, T), Refusal> {
        let on = table.as_object_mut().and_then(|table| table.remove("on"));
        let on = on.and_then(|on| serde_json::from_value(on).ok()).ok_or_else(|| {
            Refusal::new("EINVAL", "there is no `on`; it names a block, a port, PORT/egress, or a shared block's index")
        })?;
        let (block, value) = self.service.directory.find(&on, access, |scope| rest(table, scope))?;
        Ok((self.name(&on, &block), block, value))
    }

    /// How listings call `block`, which was found by `on`.
    fn name(&self, on: &BlockName, block: &Block) -> BlockName {
        self.service.directory.name_of(block.id()).unwrap_or_else(|| on.clone())
    }
}

fn new_filters(
    transaction: &Transaction,
    block: &Arc<Block>,
    specs: &[FilterSpec],
    mode: Mode,
) -> Result<Vec<FilterId>, RequestError> {
    specs.iter().map(|spec| transaction.new_filter(block, spec, mode)).collect()
}

fn chain_index(chain: Value, scope: Scope<'_>) -> Result<u32, ConfigErrors> {
    json::chain(chain, scope).map(|ChainSpec { index, .. }| index)
}

fn action_kind(word: &str) -> Result<ActionKind, Refusal> {
    let kind = ActionKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    kind.ok_or_else(|| Refusal::new("EINVAL", format!("{word:?} is no kind of action; gact and mirred are")))
}

/// Where a listing goes on; at the start, if nothing is given.
fn read_cursor<T: Default + std::str::FromStr>(after: Option<&str>) -> Result<T, Refusal> {
    match after {
        None => Ok(T::default()),
        Some(after) => after.parse().map_err(|_| Refusal::new("EINVAL", format!("after: no page ended at {after:?}"))),
    }
}

fn page_size(max: Option<usize>) -> usize {
    max.unwrap_or(PAGE).min(PAGE_MAX)
}

/// `table`, and which block it is in, in front.
fn placed(on: &BlockName, mut table: Value) -> Value {
    if let Value::Object(fields) = &mut table {
        fields.shift_insert(0, "on".into(), on.to_value());
    }
    table
}

fn place(FilterId { chain, priority, handle }: FilterId) -> wire::FilterId {
    wire::FilterId { chain, priority, handle }
}

fn no_transaction() -> Refusal {
    Refusal::new("EINVAL", "there is no transaction")
}

fn wrong(errors: ConfigErrors) -> Refusal {
    Refusal::new("EINVAL", errors.to_string())
}

/// Dropping the conflict aborts its transaction.
#[expect(clippy::needless_pass_by_value, reason = "its transaction ends here")]
fn conflict(conflict: Conflict) -> Refusal {
    Refusal::new("EAGAIN", format!("{conflict}; nothing was done, and the transaction is aborted"))
}

pub(super) fn refusal(error: RequestError) -> Refusal {
    Refusal::new(error.errno(), error.to_string())
}
