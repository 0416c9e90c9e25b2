//! Client: a connection to a gateway, with one method a request.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::ClientError;
use crate::frame;
use crate::status::{FilterStatus, Status};
use crate::wire::{
    BlockInfo, BlockName, FilterId, Notice, Outcome, Page, Record, ReloadReport, Reply, Request, VERSION,
};

/// Largest message that is taken, in bytes.
const MESSAGE_MAX: u32 = 1 << 30;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of requests that are under way at most. Less than a socket takes without being read, so a write never waits for
/// the gateway: it could not read on while its own replies are not taken.
const WINDOW: usize = 64 << 10;

/// A connection to a gateway. Requests are served one after the other, in their order.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    /// Requests that are not written yet.
    out: Vec<u8>,
    message: Vec<u8>,
    /// Sizes of the requests that are not answered yet, and their sum, in bytes.
    unanswered: VecDeque<usize>,
    under_way: usize,
    version: String,
}

impl Client {
    /// Connects to the gateway whose control socket is at `path`.
    ///
    /// # Errors
    /// `Unreachable` if nobody listens; `Refused` with `EACCES` if the socket is not for you, with `EAGAIN` if there are too many
    /// connections; `Version`.
    pub fn connect(path: impl AsRef<Path>) -> Result<Client, ClientError> {
        let path = path.as_ref();
        let unreachable = |source| ClientError::Unreachable { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(unreachable)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(unreachable)?;
        let mut client = Client {
            stream: BufReader::with_capacity(WINDOW, stream),
            out: Vec::new(),
            message: Vec::new(),
            unanswered: VecDeque::new(),
            under_way: 0,
            version: String::new(),
        };
        match client.receive() {
            Ok(Outcome::Ok(Reply::Welcome { version, protocol: VERSION })) => Ok(Client { version, ..client }),
            Ok(Outcome::Ok(Reply::Welcome { version, protocol })) => Err(ClientError::Version { version, protocol }),
            Ok(Outcome::Ok(other)) => Err(unexpected(&other)),
            Ok(Outcome::Error(refusal)) => Err(refusal.into()),
            Err(source) => Err(unreachable(source)),
        }
    }

    /// Version of the gateway.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Any request, and its reply.
    ///
    /// # Errors
    /// `Refused` with the gateway's reason; `Broken`, after which the connection is of no use.
    pub fn request(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.send(request)?;
        self.reply()
    }

    /// Many requests, sent without waiting for one reply after the other: an iterator over the replies, in order. Requests are
    /// taken and sent as replies are taken; those that were sent are served also if the iterator is dropped.
    pub fn pipeline<I: IntoIterator<Item = Request>>(&mut self, requests: I) -> Pipeline<'_, I::IntoIter> {
        Pipeline { client: self, requests: Some(requests.into_iter()) }
    }

    /// Ports, queues and workers, without the filters, of which there may be many.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn brief_status(&mut self) -> Result<Status, ClientError> {
        match self.request(&Request::Status {})? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// Everything `tidegate status` shows, filters included.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        let mut status = self.brief_status()?;
        for block in self.blocks()? {
            for record in self.filters(json!({ "on": block.on.to_value() })) {
                match record {
                    Ok(Record::Filter(filter)) => {
                        status.filters.push(FilterStatus::from_listed(filter).map_err(io::Error::from)?);
                    }
                    Ok(Record::Proto(_)) => {}
                    Err(gone) if gone.errno() == Some("ENODEV") => break, // it went with its port
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(status)
    }

    /// Stops a worker and starts it afresh.
    ///
    /// # Errors
    /// `Refused` with `ENOENT` if there is no such worker; as [`Client::request`].
    pub fn restart_worker(&mut self, worker: u16) -> Result<(), ClientError> {
        self.done(&Request::RestartWorker { worker })
    }

    /// Has the configuration file read, and its filters become those that run. With `trial`, that is taken back after so long,
    /// unless it is confirmed; whole seconds count.
    ///
    /// # Errors
    /// `Refused` with `EINVAL` and every reason why nothing was done; as [`Client::request`].
    pub fn reload(&mut self, trial: Option<Duration>) -> Result<ReloadReport, ClientError> {
        self.stream.get_ref().set_read_timeout(None)?; // a large file takes its time
        let reply = self.request(&Request::Reload { confirm_s: trial.map(|trial| trial.as_secs()) });
        self.stream.get_ref().set_read_timeout(Some(PATIENCE))?;
        match reply? {
            Reply::Reloaded(report) => Ok(report),
            other => Err(unexpected(&other)),
        }
    }

    /// Keeps what a reload made that is on trial.
    ///
    /// # Errors
    /// `Refused` with `ENOENT` if there is none; as [`Client::request`].
    pub fn confirm(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Confirm {})
    }

    /// What the gateway was started with, but for blocks: by name in the file.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn settings(&mut self) -> Result<BTreeMap<String, String>, ClientError> {
        match self.request(&Request::Settings {})? {
            Reply::Settings(settings) => Ok(settings),
            other => Err(unexpected(&other)),
        }
    }

    /// Adds a filter, a table in the words of the file. Returns where it is: two places if it is for IPv4 and IPv6.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn add_filter(&mut self, filter: Value) -> Result<Vec<FilterId>, ClientError> {
        self.filters_made(&Request::AddFilter { filter })
    }

    /// Adds a filter, or overwrites the one with its handle.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn replace_filter(&mut self, filter: Value) -> Result<Vec<FilterId>, ClientError> {
        self.filters_made(&Request::ReplaceFilter { filter })
    }

    /// Overwrites a filter, which must be there.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn change_filter(&mut self, filter: Value) -> Result<Vec<FilterId>, ClientError> {
        self.filters_made(&Request::ChangeFilter { filter })
    }

    /// Deletes a filter, a priority or a chain's filters, as much as `filter` says of where they are.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn delete_filter(&mut self, filter: Value) -> Result<(), ClientError> {
        self.done(&Request::DeleteFilter { filter })
    }

    /// One filter, with what it did.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn get_filter(&mut self, filter: Value) -> Result<Value, ClientError> {
        match self.request(&Request::GetFilter { filter })? {
            Reply::Filter(filter) => Ok(filter),
            other => Err(unexpected(&other)),
        }
    }

    /// All filters that `filter` is about (`on`, `chain`, `priority`, `protocol`), and the protos they are in.
    pub fn filters(&mut self, filter: Value) -> Listing<'_, Record> {
        let ask = move |after| Request::DumpFilters { filter: filter.clone(), after, max: None };
        self.listing(ask, |reply| match reply {
            Reply::FilterPage(page) => Ok(page),
            other => Err(unexpected(&other)),
        })
    }

    /// Adds a chain: `on`, `chain`, and a template if it is to have one.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn add_chain(&mut self, chain: Value) -> Result<(), ClientError> {
        self.done(&Request::AddChain { chain })
    }

    /// What tc calls a change of a chain: adds nothing, and is always refused.
    ///
    /// # Errors
    /// `EEXIST` if the chain is there, `ENOENT` if it is not; as [`Client::request`].
    pub fn change_chain(&mut self, chain: Value) -> Result<(), ClientError> {
        self.done(&Request::ChangeChain { chain })
    }

    /// Deletes a chain with all its filters.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn delete_chain(&mut self, chain: Value) -> Result<(), ClientError> {
        self.done(&Request::DeleteChain { chain })
    }

    /// One chain, with its template.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn get_chain(&mut self, chain: Value) -> Result<Value, ClientError> {
        match self.request(&Request::GetChain { chain })? {
            Reply::Chain(chain) => Ok(chain),
            other => Err(unexpected(&other)),
        }
    }

    /// All chains of a block, in order of creation.
    pub fn chains(&mut self, on: impl Into<BlockName>) -> Listing<'_, Value> {
        let on = on.into();
        let ask = move |after| Request::DumpChains { on: on.clone(), after, max: None };
        self.listing(ask, |reply| match reply {
            Reply::ChainPage(page) => Ok(page),
            other => Err(unexpected(&other)),
        })
    }

    /// Adds actions of their own, a list of action words or tables. Returns their indexes.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn add_actions(&mut self, actions: Value) -> Result<Vec<u32>, ClientError> {
        self.actions_made(&Request::AddActions { actions })
    }

    /// Adds actions of their own, or overwrites those with their indexes. Returns these.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn replace_actions(&mut self, actions: Value) -> Result<Vec<u32>, ClientError> {
        self.actions_made(&Request::ReplaceActions { actions })
    }

    /// Deletes actions that no filter uses: `kind` and `index` of each.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn delete_actions(&mut self, actions: Vec<Value>) -> Result<(), ClientError> {
        self.done(&Request::DeleteActions { actions })
    }

    /// The action of this `kind` and `index`, with what it did.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn get_action(&mut self, action: Value) -> Result<Value, ClientError> {
        match self.request(&Request::GetAction { action })? {
            Reply::Action(action) => Ok(action),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes the actions of a kind up to the first one that a filter uses. Returns how many.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn flush_actions(&mut self, kind: &str) -> Result<usize, ClientError> {
        match self.request(&Request::FlushActions { kind: kind.into() })? {
            Reply::Flushed(count) => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// All actions of a kind, by index.
    pub fn actions(&mut self, kind: &str) -> Listing<'_, Value> {
        let kind = kind.to_owned();
        let ask = move |after| Request::DumpActions { kind: kind.clone(), after, max: None };
        self.listing(ask, |reply| match reply {
            Reply::ActionPage(page) => Ok(page),
            other => Err(unexpected(&other)),
        })
    }

    /// Binds hooks of a port to blocks: to the shared one of this index, to one of its own for 0, not at all for `None`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn bind(&mut self, port: &str, ingress: Option<u32>, egress: Option<u32>) -> Result<(), ClientError> {
        self.done(&Request::Bind { port: port.into(), ingress, egress })
    }

    /// Takes off a port's hooks what [`Client::bind`] bound.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn unbind(&mut self, port: &str) -> Result<(), ClientError> {
        self.done(&Request::Unbind { port: port.into() })
    }

    /// Every block with its hooks.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn blocks(&mut self) -> Result<Vec<BlockInfo>, ClientError> {
        match self.request(&Request::DumpBlocks {})? {
            Reply::Blocks(blocks) => Ok(blocks),
            other => Err(unexpected(&other)),
        }
    }

    /// Begins a transaction: what is asked through it takes effect at one instant, at its commit.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn begin(&mut self) -> Result<Transaction<'_>, ClientError> {
        self.done(&Request::Begin {})?;
        Ok(Transaction { client: self, open: true })
    }

    /// Turns the connection into a stream of what happens from now on.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn subscribe(mut self) -> Result<Events, ClientError> {
        self.done(&Request::Subscribe {})?;
        Ok(Events { client: self })
    }

    /// Turns the connection into a stream of the packets that are shown under `group` from now on; all, without one.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn subscribe_samples(mut self, group: Option<u32>) -> Result<Events, ClientError> {
        self.done(&Request::SubscribeSamples { group })?;
        Ok(Events { client: self })
    }

    fn done(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.request(request)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn filters_made(&mut self, request: &Request) -> Result<Vec<FilterId>, ClientError> {
        match self.request(request)? {
            Reply::Filters(filters) => Ok(filters),
            other => Err(unexpected(&other)),
        }
    }

    fn actions_made(&mut self, request: &Request) -> Result<Vec<u32>, ClientError> {
        match self.request(request)? {
            Reply::Indexes(indexes) => Ok(indexes),
            other => Err(unexpected(&other)),
        }
    }

    fn listing<T>(
        &mut self,
        ask: impl Fn(Option<String>) -> Request + 'static,
        page: fn(Reply) -> Result<Page<T>, ClientError>,
    ) -> Listing<'_, T> {
        Listing { client: self, ask: Box::new(ask), page, records: Vec::new().into_iter(), ahead: Ahead::First }
    }

    /// Sends a request whose reply will be the next one.
    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        self.settle()?;
        self.put(request)?;
        Ok(self.flush()?)
    }

    /// Takes the replies that nobody waits for any more.
    fn settle(&mut self) -> Result<(), ClientError> {
        self.flush()?;
        while !self.unanswered.is_empty() {
            match self.reply() {
                Ok(_) | Err(ClientError::Refused(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn put(&mut self, request: &Request) -> io::Result<()> {
        let size = frame::write(&mut self.out, request)?;
        self.unanswered.push_back(size);
        self.under_way += size;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.get_mut().write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    /// The reply to the first request that has none yet.
    fn reply(&mut self) -> Result<Reply, ClientError> {
        let outcome = self.receive()?;
        self.answered();
        accepted(outcome)
    }

    /// The same, unread.
    fn reply_unread(&mut self) -> io::Result<Vec<u8>> {
        self.read()?;
        self.answered();
        Ok(std::mem::take(&mut self.message))
    }

    fn answered(&mut self) {
        self.under_way -= self.unanswered.pop_front().unwrap_or_default();
    }

    /// Nothing more is written, and nothing more is waited for.
    fn give_up(&mut self) {
        self.out.clear();
        self.unanswered.clear();
        self.under_way = 0;
        let _ = self.stream.get_ref().shutdown(Shutdown::Both); // it may be broken already
    }

    fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        self.read()?;
        Ok(serde_json::from_slice(&self.message)?)
    }

    fn read(&mut self) -> io::Result<()> {
        match frame::read(&mut self.stream, MESSAGE_MAX, &mut self.message)? {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn accepted(outcome: Outcome) -> Result<Reply, ClientError> {
    match outcome {
        Outcome::Ok(reply) => Ok(reply),
        Outcome::Error(refusal) => Err(refusal.into()),
    }
}

fn unexpected(reply: &Reply) -> ClientError {
    ClientError::Unexpected(format!("{reply:.60?}"))
}

/// The replies to many requests, in order. Ends after the last one, and after an error that is no refusal.
#[derive(Debug)]
pub struct Pipeline<'c, I> {
    client: &'c mut Client,
    requests: Option<I>,
}

impl<I: Iterator<Item = Request>> Pipeline<'_, I> {
    fn advance(&mut self) -> Result<Option<Reply>, ClientError> {
        let client = &mut *self.client;
        // Many at once, or each would take a system call of its own.
        if client.under_way <= WINDOW / 2 {
            while let Some(requests) = &mut self.requests
                && client.under_way < WINDOW
            {
                match requests.next() {
                    Some(request) => client.put(&request)?,
                    None => self.requests = None,
                }
            }
            client.flush()?;
        }
        if client.unanswered.is_empty() { Ok(None) } else { client.reply().map(Some) }
    }
}

impl<I: Iterator<Item = Request>> Iterator for Pipeline<'_, I> {
    type Item = Result<Reply, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if let Err(e) = &next
            && e.errno().is_none()
        {
            self.requests = None;
            self.client.give_up();
        }
        next.transpose()
    }
}

/// What a client asks between [`Client::begin`] and the commit: none of it takes effect before, all of it then. Dropped
/// without a commit, it is aborted.
#[derive(Debug)]
pub struct Transaction<'c> {
    client: &'c mut Client,
    open: bool,
}

impl Transaction<'_> {
    /// Lets everything take effect at one instant. Returns the generation that packets see from now on.
    ///
    /// # Errors
    /// As [`Client::request`]; nothing took effect then.
    pub fn commit(mut self) -> Result<u64, ClientError> {
        self.open = false;
        match self.client.request(&Request::Commit {})? {
            Reply::Committed(generation) => Ok(generation),
            other => Err(unexpected(&other)),
        }
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn abort(mut self) -> Result<(), ClientError> {
        self.open = false;
        self.client.done(&Request::Abort {})
    }
}

impl Deref for Transaction<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Client {
        self.client
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            // A broken connection is an abort as well.
            let _ = self.client.done(&Request::Abort {});
        }
    }
}

/// The records of a listing, page by page as they are taken. The gateway makes a page while the one before is read here;
/// it never waits for who is slow to take the records. Ends after an error.
pub struct Listing<'c, T> {
    client: &'c mut Client,
    ask: Box<dyn Fn(Option<String>) -> Request>,
    page: fn(Reply) -> Result<Page<T>, ClientError>,
    records: std::vec::IntoIter<T>,
    ahead: Ahead,
}

/// The page after this one.
enum Ahead {
    /// The first page: not asked for yet.
    First,
    /// Here, but not read.
    Here(Vec<u8>),
    /// There is none.
    None,
}

impl<T> Listing<'_, T> {
    /// Turns to the next page, if there is one.
    fn turn(&mut self) -> Result<bool, ClientError> {
        let message = match std::mem::replace(&mut self.ahead, Ahead::None) {
            Ahead::First => {
                self.client.send(&(self.ask)(None))?;
                self.client.reply_unread()?
            }
            Ahead::Here(message) => message,
            Ahead::None => return Ok(false),
        };
        let next = next_page(&message);
        let more = next.is_some();
        if more {
            self.client.send(&(self.ask)(next))?;
        }
        let outcome = serde_json::from_slice(&message).map_err(io::Error::from)?;
        self.records = accepted(outcome).and_then(self.page)?.records.into_iter();
        if more {
            self.ahead = Ahead::Here(self.client.reply_unread()?);
        }
        Ok(true)
    }
}

/// [`Page::next`] of a reply, without reading the records.
fn next_page(message: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Any {
        ok: HashMap<String, Next>,
    }
    #[derive(Deserialize)]
    struct Next {
        next: Option<String>,
    }
    let any: Any = serde_json::from_slice(message).ok()?;
    any.ok.into_values().next()?.next
}

impl<T> Iterator for Listing<'_, T> {
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.records.next() {
                return Some(Ok(record));
            }
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// What happens in a gateway, as it happens. Ends when the gateway does.
#[derive(Debug)]
pub struct Events {
    client: Client,
}

impl Events {
    /// The next notice, if one comes within `timeout`.
    ///
    /// # Errors
    /// `Broken`, after which nothing comes any more.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Notice>, ClientError> {
        let stream = &mut self.client.stream;
        if stream.buffer().is_empty() {
            stream.get_ref().set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
            let waited = stream.fill_buf().map(|_| ());
            stream.get_ref().set_read_timeout(Some(PATIENCE))?;
            match waited {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                waited => waited?,
            }
        }
        Ok(Some(self.client.receive()?))
    }
}

impl Iterator for Events {
    type Item = Result<Notice, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_within(PATIENCE) {
                Ok(None) => {}
                Ok(Some(notice)) => return Some(Ok(notice)),
                Err(ClientError::Broken(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return None,
                Err(e) => return Some(Err(e)),
            }
        }
    }
}
