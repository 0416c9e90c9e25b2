//! `police rate 10mbit burst 64k`: what exceeds is dropped, unless `exceed` says otherwise.

use tidegate_classifiers::request::{ActionSpec, Limit, PoliceSpec};
use tidegate_classifiers::verdict::Control;

use super::{Words, show_control};
use crate::error::Wrong;
use crate::units;
use crate::words::{instead, quote};

const OPTIONS: [&str; 11] = [
    "rate",
    "burst",
    "peakrate",
    "mtu",
    "pkts_rate",
    "pkts_burst",
    "overhead",
    "mpu",
    "linklayer",
    "exceed",
    "conform",
];

/// What comes after `police`.
pub(super) fn read(words: &mut Words<'_>) -> Result<ActionSpec, Wrong> {
    let (mut rate, mut burst, mut peak, mut mtu) = (None, None, None, None);
    let (mut pkts_rate, mut pkts_burst) = (None, None);
    let (mut overhead, mut mpu, mut atm) = (0, 0, false);
    let (mut exceed, mut conform) = (Control::Shot, Control::Pipe);
    let example = "police rate 10mbit burst 64k";
    while let Some(option) = words.rest.next() {
        match option {
            "rate" => rate = Some(read_rate(words.word(example)?)?),
            "peakrate" => peak = Some(read_rate(words.word(example)?)?),
            "burst" => burst = Some(read_size(words.word(example)?)?),
            "mtu" => mtu = Some(read_size(words.word("police rate 10mbit burst 64k mtu 9000")?)?),
            "pkts_rate" => pkts_rate = Some(words.number("police pkts_rate 1000 pkts_burst 100", 1, u32::MAX)?),
            "pkts_burst" => pkts_burst = Some(words.number("police pkts_rate 1000 pkts_burst 100", 1, u32::MAX)?),
            "overhead" => overhead = words.number("police rate 10mbit burst 64k overhead 24", 0, u16::MAX.into())?,
            "mpu" => mpu = read_size(words.word("police rate 10mbit burst 64k mpu 64")?)?,
            "linklayer" => match words.word("police rate 10mbit burst 64k linklayer atm")? {
                "ethernet" => atm = false,
                "atm" => atm = true,
                other => return Err(Wrong::new(format!("{} is no link layer", quote(other))).hint("ethernet or atm")),
            },
            "exceed" => exceed = words.control()?,
            "conform" => conform = words.second_control()?,
            other => return Err(words.unexpected(other).hint(instead(other, OPTIONS.into_iter()))),
        }
    }
    let limit = match (rate, burst, pkts_rate, pkts_burst) {
        (Some(rate), Some(burst), None, None) => Limit::Bytes { rate, burst, peak },
        (None, None, Some(rate), Some(burst)) if peak.is_none() => Limit::Packets { rate: rate.into(), burst },
        (None, None, None, None) if mtu.is_some() && peak.is_none() => Limit::Length,
        (Some(_), _, Some(_), _) => {
            return Err(
                Wrong::new("police has rate and pkts_rate").hint("write two police actions, one after the other")
            );
        }
        _ => {
            let hint = "rate with burst, pkts_rate with pkts_burst, or mtu alone; peakrate goes with rate";
            return Err(Wrong::new(format!("{} is no limit", quote(words.text))).hint(hint));
        }
    };
    if peak.is_some() && mtu.is_none() {
        return Err(Wrong::new("peakrate needs mtu").hint("write the longest packet as mtu 1514"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most u16::MAX")]
    Ok(PoliceSpec { limit, mtu, overhead: overhead as u16, mpu, atm, exceed, conform }.into())
}

fn read_rate(word: &str) -> Result<u64, Wrong> {
    units::rate(word).ok_or_else(|| Wrong::new(format!("{} is no rate", quote(word))).hint("write it as 10mbit"))
}

fn read_size(word: &str) -> Result<u32, Wrong> {
    units::size(word).ok_or_else(|| Wrong::new(format!("{} is no size", quote(word))).hint("write it as 64k or 1500"))
}

/// The inverse of [`read`], with `police`.
pub(super) fn show(police: &PoliceSpec) -> String {
    let mut text = "police".to_owned();
    let mut add = |name: &str, value: &str| text.extend([" ", name, " ", value]);
    match police.limit {
        Limit::Length => {}
        Limit::Bytes { rate, burst, peak } => {
            add("rate", &units::show_rate(rate));
            add("burst", &units::show_size(burst));
            peak.iter().for_each(|peak| add("peakrate", &units::show_rate(*peak)));
        }
        Limit::Packets { rate, burst } => {
            add("pkts_rate", &rate.to_string());
            add("pkts_burst", &burst.to_string());
        }
    }
    police.mtu.iter().for_each(|mtu| add("mtu", &units::show_size(*mtu)));
    if police.overhead > 0 {
        add("overhead", &police.overhead.to_string());
    }
    if police.mpu > 0 {
        add("mpu", &units::show_size(police.mpu));
    }
    if police.atm {
        add("linklayer", "atm");
    }
    if police.exceed != Control::Shot {
        add("exceed", &show_control(police.exceed));
    }
    if police.conform != Control::Pipe {
        add("conform", &show_control(police.conform));
    }
    text
}
