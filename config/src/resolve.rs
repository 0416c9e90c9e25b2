//! Raw to checked: names bound, numbers in range, and nothing left that nobody asked for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use tidegate_classifiers::flow_cache::ENTRIES_MAX;
use tidegate_classifiers::request::CHAIN_MAX;

use crate::actions::port_id;
use crate::block::Draft;
use crate::error::{Problems, Wrong};
use crate::filter::{self, FileNames};
use crate::names::{self, Names};
use crate::place::Place;
use crate::table::{Node, Table, Value};
use crate::words::{self, choice, quote};
use crate::{
    Config, Control, ForwardTo, Idle, Mode, Neighbours, OnExit, PORTS_MAX, PassList, Port, PortNumbers, Workers,
};

/// What the files mean. Only good for use if no problem was found: wrong values are replaced by others meanwhile, so that
/// the rest can be checked.
pub(crate) fn resolve(mut root: Table, running: &PortNumbers, problems: &mut Problems) -> Config {
    let workers = workers(root.table("workers", "[workers]", problems), problems);
    let control = control(root.table("control", "[control]", problems), problems);
    let tables = port_tables(&mut root, problems);
    let blocks = blocks(&mut root, &tables, problems);
    let port_names = numbered(&tables, running.clone(), problems);
    let ports: Vec<_> = tables.into_iter().map(|port| read_port(port, &port_names, &blocks, problems)).collect();
    check_interfaces(&ports, problems);
    let filters = root.take("filter");
    root.finish(problems);

    let mut drafts: Vec<_> = blocks.chains.iter().map(|_| Draft::default()).collect();
    let names = FileNames { ports: &port_names, blocks: &blocks.names, chains: &blocks.chains, bound: &blocks.bound };
    for node in filters.map(|node| elements(node, problems)).unwrap_or_default() {
        if let Some((block, wanted)) = filter::read_placed(node, &names, problems)
            && let Some(draft) = drafts.get_mut(block)
        {
            draft.add(wanted, problems);
        }
    }
    bind(workers, control, ports, blocks, drafts, problems)
}

fn elements(node: Node, problems: &mut Problems) -> Vec<Node> {
    let wrong = node.expected("a list of tables").hint("write [[filter]] before each").of("filter");
    match node.value {
        Value::List(elements) => elements,
        _ => {
            problems.push(node.place, wrong);
            Vec::new()
        }
    }
}

/// The ports' numbers. They differ from those of running ports that the file no longer has: both have filters for a while.
fn numbered(ports: &[PortTable], mut numbers: PortNumbers, problems: &mut Problems) -> Names {
    let mut names = Names::new("port");
    for port in ports {
        match numbers.assign(&port.name) {
            Some(number) => names.insert(&port.name, number.0.into()),
            None => {
                let wrong = Wrong::new(format!("more than {PORTS_MAX} ports, with those that run"));
                problems.push(port.table.place, wrong.hint("where some come and others go, do it in two steps"));
                break;
            }
        }
    }
    names
}

fn workers(mut table: Table, problems: &mut Problems) -> Workers {
    let count_place = table.place;
    let count = table.read("count", problems, |node| node.number(1..=1024));
    let cores = table.read_list("cores", problems, |node| node.number(0..=4095)).unwrap_or_default();
    for (i, (core, place)) in cores.iter().enumerate() {
        if cores[..i].iter().any(|(other, _)| other == core) {
            problems.push(*place, Wrong::new(format!("cores: {core} is there twice")).hint("one core for each worker"));
        }
    }
    if let Some(count) = count
        && !cores.is_empty()
        && cores.len() != usize::from(count)
    {
        let wrong = Wrong::new(format!("cores: {} named for {count} workers", cores.len()));
        let place = cores.first().map_or(count_place, |(_, place)| *place);
        problems.push(place, wrong.hint("name one core for each worker, or none"));
    }
    let power_of_two = |node: &Node, min: u32, max: u32| {
        let number = node.number(min..=max)?;
        let wrong = || Wrong::new(format!("{number} is not a power of two"));
        let (below, above) = (number.next_power_of_two() / 2, number.next_power_of_two());
        if number.is_power_of_two() { Ok(number) } else { Err(wrong().hint(format!("{below} or {above}"))) }
    };
    let workers = Workers {
        count,
        cores: cores.into_iter().map(|(core, _)| core).collect(),
        idle: table
            .read("idle", problems, |node| {
                choice(node.text()?, &[("busy", Idle::Busy), ("adaptive", Idle::Adaptive), ("sleep", Idle::Sleep)])
            })
            .unwrap_or(Idle::Adaptive),
        burst: table.read("burst", problems, |node| node.number(1..=256)).unwrap_or(64),
        ring_size: table.read("ring_size", problems, |node| power_of_two(node, 64, 32_768)).unwrap_or(2048),
        frames: table.read("frames", problems, |node| node.number(64..=16_777_216)),
        chunk_size: table.read("chunk_size", problems, |node| power_of_two(node, 2048, 4096)).unwrap_or(2048),
        huge_pages: table.read("huge_pages", problems, Node::boolean).unwrap_or(false),
        flow_cache: table.read("flow_cache", problems, |node| node.number(0..=ENTRIES_MAX)).unwrap_or(65_536),
    };
    table.finish(problems);
    workers
}

fn control(mut table: Table, problems: &mut Problems) -> Control {
    let socket = table.read("socket", problems, |node| {
        let path = PathBuf::from(node.text()?);
        // sun_path has 108 bytes, one of them the terminator.
        match path.is_absolute() && path.as_os_str().len() <= 107 {
            true => Ok(path),
            false => Err(Wrong::new("not a path for a socket").hint("it begins with / and has at most 107 bytes")),
        }
    });
    let control = Control {
        socket: socket.unwrap_or_else(|| PathBuf::from("/run/tidegate/tidegate.sock")),
        group: table.read("group", problems, |node| Ok(node.text()?.to_owned())).unwrap_or_else(|| "tidegate".into()),
    };
    table.finish(problems);
    control
}

/// A port whose fields are still to be read, but for its block.
struct PortTable {
    name: String,
    table: Table,
    block: Option<(String, Place)>,
}

/// The ports, in the order of the files.
fn port_tables(root: &mut Table, problems: &mut Problems) -> Vec<PortTable> {
    let nodes = root.table("port", "[port]", problems).into_fields();
    if nodes.is_empty() {
        problems.push(root.place, Wrong::missing("there is no port").hint("a gateway needs one: [port.wan]"));
    }
    let tables = nodes.into_iter().map(|(name, node)| {
        problems.accept(node.key, check_port_name(&name));
        let mut table = Table::from_node(format!("[port.{}]", words::shown(&name)), node, problems);
        let block = table.read("block", problems, |node| Ok((node.text()?.to_owned(), node.place)));
        PortTable { name, table, block }
    });
    tables.collect()
}

fn check_port_name(name: &str) -> Result<(), Wrong> {
    if name == "host" {
        return Err(Wrong::new("a port cannot be called `host`").hint("that is the kernel, for forward_to"));
    }
    names::check(name)
}

fn read_port(port: PortTable, ports: &Names, blocks: &Blocks, problems: &mut Problems) -> (Port, Place) {
    let PortTable { name, mut table, block } = port;
    let place = table.place;
    let (interface, interface_place) = table
        .read("interface", problems, |node| Ok((node.text()?.to_owned(), node.place)))
        .unwrap_or_else(|| (name.clone(), place));
    problems.accept(interface_place, check_interface(&interface));

    let forward_to = table.take("forward_to");
    if forward_to.is_none() {
        table.missing("forward_to", "say where packets that pass go: another port, or \"host\"");
    }
    let forward_to = forward_to.and_then(|node| {
        let found = node.text().and_then(|to| match to {
            "host" => Ok(ForwardTo::Host),
            _ if to == name => Err(Wrong::new("a port cannot forward to itself").hint("another port, or \"host\"")),
            _ => ports.find(to).map(|number| ForwardTo::Port(port_id(number))),
        });
        problems.accept(node.place, found.map_err(|wrong| wrong.of("forward_to")))
    });
    let forward_to = forward_to.unwrap_or(ForwardTo::Host);

    let mode = table.read("mode", problems, |node| {
        let modes =
            [("auto", Mode::Auto), ("zero-copy", Mode::ZeroCopy), ("native", Mode::Native), ("generic", Mode::Generic)];
        choice(node.text()?, &modes)
    });
    let on_exit =
        table.read("on_exit", problems, |node| choice(node.text()?, &[("pass", OnExit::Pass), ("drop", OnExit::Drop)]));
    let title = format!("[port.{}.host]", words::shown(&name));
    let host = pass_list(table.table("host", &title, problems), forward_to, problems);
    table.finish(problems);

    let block = match &block {
        None => blocks.names.find(&name).ok(),
        Some((block, place)) => problems.accept(*place, blocks.names.find(block).map_err(|wrong| wrong.of("block"))),
    };
    let port = Port {
        id: port_id(ports.number(&name).unwrap_or_default()), // none is a problem that was told
        name,
        interface,
        forward_to,
        mode: mode.unwrap_or(Mode::Auto),
        on_exit: on_exit.unwrap_or(OnExit::Pass),
        host,
        block: block.map(|block| block as usize),
    };
    (port, interface_place)
}

/// What the kernel accepts as the name of an interface.
fn check_interface(name: &str) -> Result<(), Wrong> {
    let wrong = |hint: &str| Err(Wrong::new(format!("interface: {} cannot be one", quote(name))).hint(hint));
    match name {
        "" | "." | ".." => wrong("such as \"eth0\""),
        _ if name.len() > 15 => wrong("its name has at most 15 bytes"),
        _ if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) => {
            wrong("its name has no space, `/` or `:`")
        }
        _ => Ok(()),
    }
}

fn check_interfaces(ports: &[(Port, Place)], problems: &mut Problems) {
    let mut first = HashMap::new();
    for (port, place) in ports {
        if let Some(other) = first.insert(&port.interface, &port.name) {
            let wrong = Wrong::new(format!("interface: {} is port {} already", quote(&port.interface), quote(other)));
            problems.push(*place, wrong.hint("an interface is one port"));
        }
    }
}

fn pass_list(mut table: Table, forward_to: ForwardTo, problems: &mut Problems) -> PassList {
    let neighbours = [("none", Neighbours::None), ("own", Neighbours::Own), ("all", Neighbours::All)];
    let default = match forward_to {
        ForwardTo::Port(_) => Neighbours::Own,
        ForwardTo::Host => Neighbours::All,
    };
    let mut words = |key| table.read(key, problems, |node| choice(node.text()?, &neighbours)).unwrap_or(default);
    let (arp, nd) = (words("arp"), words("nd"));
    let addresses = table.read_list("addresses", problems, |node| words::address(node.text()?));
    let list = PassList {
        arp,
        nd,
        protocols: values(table.read_list("protocols", problems, words::ip_proto)),
        addresses: values::<IpAddr>(addresses),
        ports: values(table.read_list("ports", problems, |node| words::transport_port(node.text()?))),
    };
    table.finish(problems);
    list
}

fn values<T>(placed: Option<Vec<(T, Place)>>) -> Vec<T> {
    placed.unwrap_or_default().into_iter().map(|(value, _)| value).collect()
}

/// The blocks there are: those the file declares, then one for each port that is not bound to a block of another name.
struct Blocks {
    names: Names,
    /// Names of chains, and whether the file declares the block.
    chains: Vec<Names>,
    in_order: Vec<(String, bool)>,
    /// Port and block of each port that is bound to a block of another name.
    bound: Vec<(String, String)>,
}

fn blocks(root: &mut Table, ports: &[PortTable], problems: &mut Problems) -> Blocks {
    let mut blocks =
        Blocks { names: Names::new("port or block"), chains: Vec::new(), in_order: Vec::new(), bound: Vec::new() };
    for (name, node) in root.table("block", "[block]", problems).into_fields() {
        problems.accept(node.key, names::check(&name));
        let mut table = Table::from_node(format!("[block.{}]", words::shown(&name)), node, problems);
        let title = format!("[block.{}.chains]", words::shown(&name));
        let chains = chains(table.table("chains", &title, problems), problems);
        table.finish(problems);
        blocks.add(name, chains, true);
    }
    for PortTable { name, block, .. } in ports {
        match block {
            Some((block, _)) if block != name => blocks.bound.push((name.clone(), block.clone())),
            _ if blocks.names.number(name).is_some() => {}
            _ => blocks.add(name.clone(), Names::new("chain of this block"), false),
        }
    }
    blocks
}

impl Blocks {
    #[expect(clippy::cast_possible_truncation, reason = "a file of 4 billion blocks does not fit in memory")]
    fn add(&mut self, name: String, chains: Names, declared: bool) {
        self.names.insert(&name, self.in_order.len() as u32);
        self.chains.push(chains);
        self.in_order.push((name, declared));
    }
}

fn chains(table: Table, problems: &mut Problems) -> Names {
    let mut chains = Names::new("chain of this block");
    for (name, node) in table.into_fields() {
        problems.accept(node.key, names::check(&name));
        let number = node.number(0..=CHAIN_MAX).map_err(|wrong| wrong.of(&words::shown(&name)));
        let Some(number) = problems.accept(node.place, number) else { continue };
        if let Some((other, _)) = chains.iter().find(|(_, taken)| *taken == number) {
            let wrong =
                Wrong::new(format!("{}: chain {number} is called {} already", words::shown(&name), quote(other)));
            problems.push(node.place, wrong.hint("a chain has one name"));
        }
        chains.insert(&name, number);
    }
    chains
}

/// Puts it together. A block that nobody declared and no filter is in does not exist.
fn bind(
    workers: Workers,
    control: Control,
    ports: Vec<(Port, Place)>,
    names: Blocks,
    drafts: Vec<Draft>,
    problems: &mut Problems,
) -> Config {
    let mut blocks = Vec::new();
    let mut index_of = Vec::new();
    for (((name, declared), chains), draft) in names.in_order.into_iter().zip(&names.chains).zip(drafts) {
        let exists = declared || !draft.is_empty();
        index_of.push(exists.then_some(blocks.len()));
        if exists {
            blocks.push(draft.finish(name, chains, problems));
        }
    }
    let ports = ports.into_iter().map(|(port, _)| {
        let block = port.block.and_then(|block| index_of.get(block).copied().flatten());
        Port { block, ..port }
    });
    Config { workers, control, ports: ports.collect(), blocks, warnings: Vec::new() }
}
