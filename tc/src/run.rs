//! Run: a command line, or a batch of them, against a gateway.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde_json::Value;
use tidegate_client::Client;
use tidegate_client::error::ClientError;
use tidegate_client::wire::{Record, Request};

use crate::arguments::{Failure, SYNTAX, Words};
use crate::command::{self, Command, Options, Refused};
use crate::filter::{self, Listed, Parent, Which};
use crate::printer::{Printer, Style};
use crate::{action, chain, monitor, qdisc};

/// Bytes of a listing that are written at once.
const CHUNK: usize = 64 << 10;

/// Requests of a batch that are under way at once.
const AHEAD: usize = 256;

/// Where a command line reads and writes.
pub struct Streams<'a> {
    /// For `-batch -`.
    pub input: &'a mut dyn BufRead,
    /// Listings.
    pub out: &'a mut dyn Write,
    /// Mistakes and refusals.
    pub err: &'a mut dyn Write,
}

/// Carries out a command line in the grammar of tc, without the name of the program, with the gateway whose control socket is
/// `socket`. Returns the exit code [CL-2].
pub fn run(arguments: &[String], socket: &Path, streams: Streams<'_>) -> u8 {
    let mut words = Words::new(arguments);
    let options = match command::options(&mut words) {
        Ok(options) => options,
        Err(failure) => return report(streams.err, &failure),
    };
    if let Some(text) = options.only {
        let _ = streams.out.write_all(text.as_bytes());
        return 0;
    }
    let Options { style, batch, force, .. } = options;
    let Streams { input, out, err } = streams;
    let session = Session { socket, client: None, style, out, err };
    match batch {
        Some(file) => Batch::new(session, force, &file).run(input),
        None => session.run(&mut words),
    }
}

fn report(err: &mut dyn Write, failure: &Failure) -> u8 {
    if !failure.text.is_empty() {
        let _ = writeln!(err, "{}", failure.text);
    }
    failure.code.unwrap_or(SYNTAX)
}

/// A connection, made when it is needed first.
struct Session<'a> {
    socket: &'a Path,
    client: Option<Client>,
    style: Style,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl Session<'_> {
    fn run(mut self, words: &mut Words<'_>) -> u8 {
        let done = command::command(words).and_then(|command| self.execute(command));
        let _ = self.out.flush();
        done.map_or_else(|failure| report(self.err, &failure), |()| 0)
    }

    fn client(&mut self) -> Result<&mut Client, Failure> {
        if self.client.is_none() {
            self.client = Some(Client::connect(self.socket).map_err(|e| broken(&e))?);
        }
        self.client.as_mut().ok_or_else(|| Failure::new(String::new()))
    }

    fn execute(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Do { request, refused } => {
                let reply = self.client()?.request(&request);
                reply.map(|_| ()).map_err(|e| refusal(&e, refused, port_of(&request)))
            }
            Command::ShowFilters(which) => self.show_filters(&which),
            Command::GetFilter { filter, which } => {
                let found = self.client()?.get_filter(filter).map_err(|e| not_found(&e, &which))?;
                self.listing(|printer| filter::print(&found, &which, Listed::Get, printer))
            }
            Command::ShowChains(which) => self.show_chains(&which),
            Command::GetChain { chain, which } => {
                let found = self.client()?.get_chain(chain).map_err(|e| not_found(&e, &which))?;
                self.listing(|printer| chain::print(&found, &which, Listed::Get, printer))
            }
            Command::ShowActions { kind } => self.show_actions(&kind),
            Command::GetActions { keys } => {
                let client = self.client()?;
                let found: Result<Vec<Value>, ClientError> =
                    keys.into_iter().map(|key| client.get_action(key)).collect();
                let refused = Refused { code: SYNTAX, trailer: filter::REFUSED.trailer };
                let found = found.map_err(|e| refusal(&e, refused, None))?;
                self.listing(|printer| action::print_table(0, 1, &found, printer))
            }
            Command::ShowQdiscs { port } => {
                let blocks = self.client()?.blocks().map_err(|e| broken(&e))?;
                self.listing(|printer| qdisc::print(&blocks, port.as_deref(), printer))
            }
            Command::Monitor => self.monitor(),
            Command::Nothing(text) => self.write(&text),
        }
    }

    fn show_filters(&mut self, which: &Which) -> Result<(), Failure> {
        let mut printer = Printer::new(self.style);
        printer.begin_listing();
        for which in hooks(which) {
            let mut table = which.table()?;
            table.retain(|key, _| key != "handle");
            self.client()?;
            let Session { client: Some(client), out, .. } = self else { return Ok(()) };
            for record in client.filters(table.into()) {
                match record {
                    Ok(Record::Proto(found) | Record::Filter(found)) => {
                        filter::print(&found, &which, Listed::Show, &mut printer);
                    }
                    Err(e) => {
                        nothing_there(&e, &which)?;
                        break;
                    }
                }
                write_chunk(&mut **out, &mut printer)?;
            }
        }
        printer.end_listing();
        self.write(&printer.take())
    }

    fn show_chains(&mut self, which: &Which) -> Result<(), Failure> {
        let mut printer = Printer::new(self.style);
        printer.begin_listing();
        for which in hooks(which) {
            let on = which.on()?;
            for found in self.client()?.chains(on.clone()) {
                match found {
                    Ok(mut found) => {
                        if found["on"].is_null() {
                            found["on"] = on.to_value();
                        }
                        chain::print(&found, &which, Listed::Show, &mut printer);
                    }
                    Err(e) => {
                        nothing_there(&e, &which)?;
                        break;
                    }
                }
            }
        }
        printer.end_listing();
        self.write(&printer.take())
    }

    fn show_actions(&mut self, kind: &str) -> Result<(), Failure> {
        let mut found = Vec::new();
        if action::is_kind(kind) {
            for action in self.client()?.actions(kind) {
                found.push(action.map_err(|e| broken(&e))?);
            }
        }
        self.listing(|printer| {
            if !found.is_empty() {
                action::print_table(found.len(), 0, &found, printer);
            }
        })
    }

    fn monitor(&mut self) -> Result<(), Failure> {
        self.client()?;
        let Some(client) = self.client.take() else { return Ok(()) };
        for notice in client.subscribe().map_err(|e| broken(&e))? {
            let mut printer = Printer::new(self.style);
            monitor::print(&notice.map_err(|e| broken(&e))?, &mut printer);
            self.write(&printer.take())?;
            if self.style.json {
                self.write("\n")?;
            }
            self.out.flush().map_err(|e| unwritable(&e))?;
        }
        Ok(())
    }

    /// Writes one listing.
    fn listing(&mut self, print: impl FnOnce(&mut Printer)) -> Result<(), Failure> {
        let mut printer = Printer::new(self.style);
        printer.begin_listing();
        print(&mut printer);
        printer.end_listing();
        self.write(&printer.take())
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(|e| unwritable(&e))
    }
}

/// The block that is meant; without a parent, those of both hooks of a port.
fn hooks(which: &Which) -> Vec<Which> {
    match (&which.port, which.parent, which.block) {
        (Some(_), None, _) => {
            [Parent::Ingress, Parent::Egress].map(|parent| Which { parent: Some(parent), ..which.clone() }).into()
        }
        (None, _, None) => Vec::new(),
        _ => vec![which.clone()],
    }
}

/// Writes what is printed once it is much.
fn write_chunk(out: &mut dyn Write, printer: &mut Printer) -> Result<(), Failure> {
    if printer.len() >= CHUNK {
        out.write_all(printer.take().as_bytes()).map_err(|e| unwritable(&e))?;
    }
    Ok(())
}

/// A batch of command lines [CL-4].
struct Batch<'a, 'f> {
    session: Session<'a>,
    force: bool,
    file: &'f str,
    /// Requests that may wait to be sent.
    ahead: usize,
    /// Number of the line that was read last.
    line: usize,
    /// Requests that are not sent yet, with their lines.
    pending: Vec<(usize, Request, Refused)>,
}

impl<'a, 'f> Batch<'a, 'f> {
    fn new(session: Session<'a>, force: bool, file: &'f str) -> Batch<'a, 'f> {
        // Who types, or waits for an answer before the next line, gets it.
        let ahead = if file == "-" { 1 } else { AHEAD };
        Batch { session, force, file, ahead, line: 0, pending: Vec::new() }
    }

    fn run(mut self, input: &mut dyn BufRead) -> u8 {
        let succeeded = if self.file == "-" {
            self.lines(input)
        } else {
            match File::open(self.file) {
                Ok(file) => self.lines(&mut BufReader::with_capacity(CHUNK, file)),
                Err(e) => {
                    let _ = writeln!(self.session.err, "Cannot open file \"{}\" for reading: {e}", self.file);
                    false
                }
            }
        };
        let _ = self.session.out.flush();
        u8::from(!succeeded)
    }

    /// Whether all succeeded.
    fn lines(&mut self, input: &mut dyn BufRead) -> bool {
        let mut succeeded = true;
        loop {
            let words = match self.read(input) {
                Ok(Some(words)) => words,
                Ok(None) => return self.send() && succeeded,
                Err(e) => {
                    let _ = writeln!(self.session.err, "{}: {e}", self.file);
                    return false;
                }
            };
            let done = match command::command(&mut Words::new(&words)) {
                Ok(Command::Do { request, refused }) => {
                    self.pending.push((self.line, request, refused));
                    self.pending.len() < self.ahead || self.send()
                }
                Ok(command) => self.send() & self.execute(command),
                Err(failure) => self.send() & self.failed(self.line, &failure),
            };
            succeeded &= done;
            if !done && !self.force {
                return false;
            }
        }
    }

    /// The next command line, however many lines it has.
    fn read(&mut self, input: &mut dyn BufRead) -> io::Result<Option<Vec<String>>> {
        let mut words = Vec::new();
        let mut text = String::new();
        loop {
            text.clear();
            if input.read_line(&mut text)? == 0 {
                return Ok((!words.is_empty()).then_some(words));
            }
            self.line += 1;
            let line = text.trim_end();
            let (line, more) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
            words.extend(command::split(line));
            if !words.is_empty() && !more {
                return Ok(Some(words));
            }
        }
    }

    fn execute(&mut self, command: Command) -> bool {
        match self.session.execute(command) {
            Ok(()) => true,
            Err(failure) => self.failed(self.line, &failure),
        }
    }

    /// Sends what is pending. Whether all of it was done.
    fn send(&mut self) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        // Without -force, what comes after a refusal must not be done.
        let first = (!self.force).then_some((0, Request::UntilRefused {}, filter::REFUSED));
        let mut places = Vec::new();
        let requests = first.into_iter().chain(self.pending.drain(..)).map(|(line, request, refused)| {
            places.push((line, refused));
            request
        });
        let replies: Result<Vec<_>, Failure> = self.session.client().map(|client| client.pipeline(requests).collect());
        let replies = match replies {
            Ok(replies) => replies,
            Err(failure) => return self.failed(self.line, &failure),
        };
        let mut succeeded = true;
        for ((line, refused), reply) in places.into_iter().zip(replies) {
            let Err(e) = reply else { continue };
            succeeded = self.failed(line, &refusal(&e, refused, None));
            if !self.force {
                break;
            }
        }
        succeeded
    }

    fn failed(&mut self, line: usize, failure: &Failure) -> bool {
        report(self.session.err, failure);
        let _ = writeln!(self.session.err, "Command failed {}:{line}", self.file);
        false
    }
}

/// Why a request was not done, which was about `port` if that is known.
fn refusal(error: &ClientError, refused: Refused, port: Option<String>) -> Failure {
    let ClientError::Refused(why) = error else { return broken(error) };
    if let ("ENODEV", Some(port)) = (why.errno.as_str(), port) {
        return no_device(&port);
    }
    let trailer = if refused.trailer.is_empty() { String::new() } else { format!("\n{}", refused.trailer) };
    Failure { text: format!("Error: {}.{trailer}", why.message), code: Some(refused.code) }
}

/// Why something cannot be shown.
fn not_found(error: &ClientError, which: &Which) -> Failure {
    match (error.errno(), &which.port) {
        (Some("ENODEV"), Some(port)) => no_device(port),
        _ => refusal(error, filter::REFUSED, None),
    }
}

/// A hook without a block has nothing to list; a port or block that is not there is a failure [RQ-11].
fn nothing_there(error: &ClientError, which: &Which) -> Result<(), Failure> {
    match (error.errno(), which.block) {
        (Some("EINVAL"), None) => Ok(()),
        (Some("EINVAL"), Some(block)) => Err(Failure { text: format!("Cannot find block \"{block}\""), code: Some(1) }),
        _ => Err(not_found(error, which)),
    }
}

/// The port that a request is about.
fn port_of(request: &Request) -> Option<String> {
    let on = match request {
        Request::Bind { port, .. } | Request::Unbind { port } => return Some(port.clone()),
        Request::AddFilter { filter }
        | Request::ReplaceFilter { filter }
        | Request::ChangeFilter { filter }
        | Request::DeleteFilter { filter } => &filter["on"],
        Request::AddChain { chain } | Request::ChangeChain { chain } | Request::DeleteChain { chain } => &chain["on"],
        _ => return None,
    };
    on.as_str().map(|on| on.strip_suffix("/egress").unwrap_or(on).to_owned())
}

fn no_device(port: &str) -> Failure {
    Failure { text: format!("Cannot find device \"{port}\""), code: Some(1) }
}

fn broken(error: &ClientError) -> Failure {
    Failure { text: error.to_string(), code: Some(1) }
}

fn unwritable(error: &io::Error) -> Failure {
    Failure { text: format!("cannot write: {error}"), code: Some(1) }
}
