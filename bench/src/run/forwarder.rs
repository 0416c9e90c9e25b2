//! What is measured: the gateway, or something to compare it with, between the same ports.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tidegate_engine::lab::Namespace;

use crate::bare::Bare;
use crate::gateway::{self, Gateway};
use crate::scenario::filters::Filters;
use crate::topology::Placement;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The gateway.
    #[value(skip)]
    Tidegate,
    /// The gateway's own rings and gates, and no filter: the limit.
    Bare,
    /// The kernel: rules of nft at the netdev ingress hook, and `fwd`.
    Nft,
    /// The kernel: u32 filters of tc, and a redirect.
    Tc,
}

/// One that runs. The kernel's parts end with their namespace.
#[derive(Debug)]
pub(crate) enum Forwarder {
    Gateway(Gateway),
    Bare(Bare),
    Kernel,
}

impl Kind {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Tidegate => "tidegate",
            Kind::Bare => "bare AF_XDP",
            Kind::Nft => "nft ingress",
            Kind::Tc => "tc u32",
        }
    }

    /// Whether the kernel forwards, in the tester's own calls to send: what it cannot take is not sent.
    pub(crate) fn is_kernel(self) -> bool {
        matches!(self, Kind::Nft | Kind::Tc)
    }

    /// Starts it in `namespace`. `settings` is the gateway's file without filters; other files go beside it.
    ///
    /// # Errors
    /// If something is missing here, or cannot do what the scenario asks for.
    pub(crate) fn start(
        self,
        namespace: &Namespace,
        placement: &Placement,
        folder: &Path,
        settings: &str,
        filters: &Filters,
    ) -> Result<Forwarder> {
        Ok(match self {
            Kind::Tidegate => {
                let config = gateway::config(folder, &filters.with(settings));
                let config = config.map_err(|error| filters.blame(error, &gateway::file(folder)))?;
                Forwarder::Gateway(Gateway::start(namespace, config, placement.generator)?)
            }
            Kind::Bare => Forwarder::Bare(Bare::start(namespace, gateway::config(folder, settings)?)?),
            Kind::Nft => {
                let file = folder.join("bench.nft");
                fs::write(&file, filters.nft()?)?;
                done(namespace.exec("nft").arg("-f").arg(file))?;
                Forwarder::Kernel
            }
            Kind::Tc => {
                let file = folder.join("bench.tc");
                fs::write(&file, filters.tc()?)?;
                done(namespace.exec("tc").arg("-batch").arg(file))?;
                Forwarder::Kernel
            }
        })
    }
}

impl Forwarder {
    /// It, if it is the gateway.
    pub(crate) fn gateway(&self) -> Option<&Gateway> {
        match self {
            Forwarder::Gateway(gateway) => Some(gateway),
            _ => None,
        }
    }

    /// The thread that forwards, if it is one of its own: the kernel forwards where packets are sent.
    pub(crate) fn thread(&self) -> Option<&'static str> {
        match self {
            Forwarder::Gateway(_) => Some(Gateway::WORKER),
            Forwarder::Bare(_) => Some(Bare::THREAD),
            Forwarder::Kernel => None,
        }
    }

    /// Stops it.
    ///
    /// # Errors
    /// If the gateway lost a frame or left something behind.
    pub(crate) fn stop(self) -> Result<()> {
        match self {
            Forwarder::Gateway(gateway) => {
                ensure!(gateway.stop()?, "the gateway lost a frame, or left something behind");
            }
            Forwarder::Bare(bare) => drop(bare.stop()?),
            Forwarder::Kernel => {}
        }
        Ok(())
    }
}

/// Runs a program to its end.
fn done(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", said.lines().next().unwrap_or("refused"));
    Ok(())
}
