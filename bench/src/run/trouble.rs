//! What is done to a gateway while packets flow. All of it runs on the tester's core: where there are two, the worker has the other.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tidegate_classifiers::block::Block;
use tidegate_client::Client;

use crate::gateway::{self, Gateway};
use crate::reload::{self, PAUSE, Shape};
use crate::scenario::Disturbance;
use crate::scenario::filters::BLOCK;
use crate::storm::Storm;

/// Of a hundred filters, how many change with each reload.
const PERCENT: u32 = 1;
/// A priority before those of the scenario's filters, so that every packet is looked up in the storm's proto.
const BEFORE_OTHERS: u32 = 1;
/// Bytes of a line that no request needs.
const RUBBISH: usize = 64 * 1024;
/// A client that is held up for so long looks whether time is up.
const HELD_UP: Duration = Duration::from_millis(50);

/// Made ready.
pub(crate) enum Trouble {
    /// Two files that take turns.
    Reloads { folder: PathBuf, texts: [String; 2], next: usize },
    /// Filters that come and go.
    Updates(Storm),
    /// So many clients.
    Flood(u32),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Reloads, adds and deletes, or requests and lines of rubbish.
    pub(crate) operations: u64,
    /// When each reload began and ended, in seconds since the trial began.
    pub(crate) marks: Vec<(f64, f64)>,
}

impl Trouble {
    /// For a gateway that runs `text`, from a file in `folder`, with this block.
    ///
    /// # Errors
    /// If a filter is refused.
    pub(crate) fn new(disturbance: Disturbance, block: &Arc<Block>, folder: &Path, text: &str) -> Result<Trouble> {
        Ok(match disturbance {
            Disturbance::ReloadStorm { filters } => {
                let file = |second: bool| {
                    let more = reload::text(BLOCK, Shape::List, filters, PERCENT, second);
                    format!("{text}\n{more}")
                };
                Trouble::Reloads { folder: folder.to_owned(), texts: [file(false), file(true)], next: 0 }
            }
            Disturbance::UpdateStorm { filters } => {
                let mut storm = Storm::new(block, 0, BEFORE_OTHERS, 0);
                storm.fill(filters as usize)?;
                Trouble::Updates(storm)
            }
            Disturbance::SocketFlood { clients } => Trouble::Flood(clients),
        })
    }

    /// Goes on until `stop`; `begin` is when the trial began.
    ///
    /// # Errors
    /// If the gateway refuses what it must do, or does not answer.
    pub(crate) fn make(&mut self, gateway: &Gateway, stop: &AtomicBool, begin: Instant) -> Result<Done> {
        match self {
            Trouble::Reloads { folder, texts, next } => {
                let mut marks = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    gateway::write(folder, &texts[*next % 2])?;
                    *next += 1;
                    let started = begin.elapsed();
                    gateway.reload()?;
                    marks.push((started.as_secs_f64(), begin.elapsed().as_secs_f64()));
                    sleep(PAUSE);
                }
                Ok(Done { operations: marks.len() as u64, marks })
            }
            Trouble::Updates(storm) => Ok(Done { operations: storm.churn(stop)?, ..Done::default() }),
            Trouble::Flood(clients) => Ok(Done { operations: flood(gateway, *clients, stop)?, ..Done::default() }),
        }
    }
}

/// Of the clients, a third asks without end, a third sends rubbish and comes again, the others say half a word and stay.
fn flood(gateway: &Gateway, clients: u32, stop: &AtomicBool) -> Result<u64> {
    let connect = || UnixStream::connect(gateway.socket()).context("control socket");
    let (mut asking, mut silent) = (Vec::new(), Vec::new());
    for number in 0..clients {
        match number % 3 {
            0 => asking.push(Client::connect(gateway.socket())?),
            1 => {}
            _ => {
                let mut client = connect()?;
                client.write_all(b"{\"sta")?;
                silent.push(client);
            }
        }
    }
    let rubbish = vec![b'x'; RUBBISH];
    let mut operations = 0;
    while !stop.load(Ordering::Relaxed) {
        for client in &mut asking {
            client.brief_status()?;
            operations += 1;
        }
        for _ in 0..clients.saturating_sub(1).div_ceil(3) {
            let mut client = connect()?;
            client.set_write_timeout(Some(HELD_UP))?;
            // The gateway may hang up at any time: it does right.
            let _ = client.write_all(&rubbish).and_then(|()| client.write_all(b"\n"));
            operations += 1;
        }
    }
    Ok(operations)
}
