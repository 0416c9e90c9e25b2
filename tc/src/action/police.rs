//! police: `police rate 1mbit burst 100k conform-exceed drop/pipe`.

use serde_json::{Map, Value};
use tidegate_classifiers::request::{ActionSpec, Limit, PoliceSpec};
use tidegate_classifiers::verdict::Control;
use tidegate_config::units;

use super::{is_verdict, print_ages, print_control, read_index, verdict};
use crate::arguments::{Failure, Words, decimal, stands_for};
use crate::printer::Printer;

/// Verdicts by their numbers.
const NUMBERED: [(&str, Control); 5] = [
    ("-1", Control::Continue),
    ("0", Control::Ok),
    ("1", Control::Reclassify),
    ("2", Control::Shot),
    ("3", Control::Pipe),
];

pub(super) fn read(words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<Option<ActionSpec>, Failure> {
    let (mut rate, mut burst, mut peak, mut mtu) = (None, None, None, None);
    let (mut pkts_rate, mut pkts_burst) = (None, None);
    let (mut overhead, mut mpu, mut atm) = (0, 0, false);
    let (mut exceed, mut conform) = (Control::Reclassify, Control::Ok);
    while let Some(word) = words.peek() {
        if stands_for(word, "index") {
            read_index(words, table)?;
            continue;
        }
        if is_verdict(word) {
            exceed = verdict(words)?;
            continue;
        }
        let name = match word {
            "buffer" | "maxburst" => "burst",
            "minburst" => "mtu",
            "mtu" | "mpu" | "rate" | "avrate" | "pkts_rate" | "pkts_burst" | "conform-exceed" => word,
            _ => match ["burst", "peakrate", "overhead", "linklayer"].into_iter().find(|name| stands_for(word, name)) {
                Some(name) => name,
                None => break,
            },
        };
        words.next();
        match name {
            "rate" => once(&mut rate, name, words, units::rate)?,
            "burst" => once(&mut burst, name, words, units::size)?,
            "peakrate" => once(&mut peak, name, words, units::rate)?,
            "mtu" => once(&mut mtu, name, words, units::size)?,
            "mpu" => mpu = value(name, words, units::size)?,
            "pkts_rate" => once(&mut pkts_rate, name, words, decimal)?,
            "pkts_burst" => once(&mut pkts_burst, name, words, decimal)?,
            "overhead" => overhead = value(name, words, |text| text.parse().ok())?,
            "linklayer" => match words.value()? {
                "ethernet" => atm = false,
                "atm" | "adsl" => atm = true,
                other => return Err(Failure::wrong(other, "linklayer")),
            },
            "conform-exceed" => (exceed, conform) = conform_exceed(words)?,
            _ => return Err(Failure::new("police: there is no rate estimator for avrate, write rate")),
        }
    }
    let limit = match (rate, burst, pkts_rate, pkts_burst) {
        (None, None, None, None) if table.contains_key("index") && mtu.is_none() => return Ok(None),
        (Some(_), _, Some(_), _) => return Err(Failure::new("'rate' and 'pkts_rate' are mutually exclusive")),
        (Some(_), None, ..) => return Err(Failure::new("'burst' requires 'rate'.")),
        (None, _, Some(_), None) | (_, _, None, Some(_)) => {
            return Err(Failure::new("'pkts_burst' requires 'pkts_rate'."));
        }
        (Some(rate), Some(burst), None, None) => Limit::Bytes { rate, burst, peak },
        (None, _, Some(rate), Some(burst)) => Limit::Packets { rate: rate.into(), burst },
        (None, ..) if mtu.is_some() => Limit::Length,
        (None, ..) => return Err(Failure::new("'rate' or 'mtu' MUST be specified.")),
    };
    match peak {
        Some(_) if rate.is_none() => return Err(Failure::new("'peakrate' requires 'rate'.")),
        Some(_) if mtu.is_none() => return Err(Failure::new("'mtu' is required, if 'peakrate' is requested.")),
        _ => {}
    }
    Ok(Some(PoliceSpec { limit, mtu, overhead, mpu, atm, exceed, conform }.into()))
}

/// The value of an option that may come once.
fn once<T>(
    place: &mut Option<T>,
    name: &str,
    words: &mut Words<'_>,
    read: impl Fn(&str) -> Option<T>,
) -> Result<(), Failure> {
    let read = value(name, words, read)?;
    match place.replace(read) {
        None => Ok(()),
        Some(_) => Err(Failure::new(format!("Double \"{name}\" spec"))),
    }
}

fn value<T>(name: &str, words: &mut Words<'_>, read: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
    let text = words.value()?;
    read(text).ok_or_else(|| Failure::wrong(text, name))
}

/// `EXCEED`, `EXCEED/CONFORM`, with or without blanks around the slash.
fn conform_exceed(words: &mut Words<'_>) -> Result<(Control, Control), Failure> {
    let text = words.value()?;
    let (exceed, conform) = text.split_once('/').unwrap_or((text, ""));
    let one = |text: &str| {
        let known = NUMBERED.iter().find(|(number, _)| *number == text).map(|(_, control)| *control);
        known.map_or_else(|| verdict(&mut Words::new(&[text.to_owned()])), Ok)
    };
    let exceed = match exceed {
        "goto" | "jump" => return Err(Failure::new("write goto and jump without conform-exceed")),
        _ => one(exceed)?,
    };
    match conform {
        "" if words.take("/") || text.ends_with('/') => Ok((exceed, verdict(words)?)),
        "" => Ok((exceed, Control::Ok)),
        _ => Ok((exceed, one(conform)?)),
    }
}

pub(super) fn print(police: &PoliceSpec, action: &Value, printer: &mut Printer) {
    let stats = &action["stats"];
    let (index, refs, binds) = (&action["index"], &stats["ref"], &stats["bind"]);
    if printer.style.json {
        printer.field("kind", "police", format_args!(""));
    }
    let number = index.as_u64().unwrap_or(0);
    printer.field("index", number, format_args!(" police {number:#x} "));
    let (rate, burst, peak) = match police.limit {
        Limit::Bytes { rate, burst, peak } => (rate, burst, peak),
        Limit::Length | Limit::Packets { .. } => (0, 0, None),
    };
    printer.text(format_args!("rate {} burst {} mtu {} ", bits(rate), bytes(sent(rate, burst)), bytes(police.mtu())));
    if let Some(peak) = peak {
        printer.text(format_args!("peakrate {} ", bits(peak)));
    }
    if let Limit::Packets { rate, burst } = police.limit {
        printer.field("pkts_rate", rate, format_args!("pkts_rate {rate} "));
        printer.field("pkts_burst", burst, format_args!("pkts_burst {burst} "));
    }
    print_control("action ", police.exceed, "", printer);
    match police.conform {
        Control::Ok => printer.text(format_args!(" ")),
        conform => print_control("/", conform, " ", printer),
    }
    printer.field("overhead", police.overhead, format_args!("overhead {} ", bytes(police.overhead.into())));
    if police.atm {
        printer.field("linklayer", "atm", format_args!("linklayer atm "));
    }
    printer.line();
    printer.field("ref", refs.clone(), format_args!("\tref {refs}"));
    printer.field("bind", binds.clone(), format_args!(" bind {binds}"));
    print_ages(stats, printer);
}

/// The burst that tc prints: it keeps bursts in ticks of 64 ns, and they are cut off twice.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "as in tc")]
fn sent(rate: u64, burst: u32) -> u32 {
    let rate = rate as f64;
    if rate == 0.0 {
        return 0;
    }
    let ticks = (1_000_000.0 * (f64::from(burst) / rate) * 15.625) as u32;
    (rate * (f64::from(ticks) / 15.625) / 1_000_000.0) as u32
}

/// `10Mbit`
fn bits(rate: u64) -> String {
    let mut rate = rate * 8;
    let mut units = ["", "K", "M", "G", "T"].into_iter().peekable();
    let mut unit = "";
    while let Some(next) = units.next() {
        unit = next;
        if units.peek().is_none() || rate < 1000 || (!rate.is_multiple_of(1000) && rate < 1_000_000) {
            break;
        }
        rate /= 1000;
    }
    format!("{rate}{unit}bit")
}

/// `64Kb`: in whole units if it is nearly that.
fn bytes(size: u32) -> String {
    let (size, mib, kib) = (i64::from(size), 1 << 20, 1 << 10);
    let near = |unit: i64, slack: i64| {
        let count = (size + unit / 2) / unit;
        (size >= unit && (count * unit - size).abs() < slack).then_some(count)
    };
    match (near(mib, kib), near(kib, 16)) {
        (Some(count), _) => format!("{count}Mb"),
        (None, Some(count)) => format!("{count}Kb"),
        (None, None) => format!("{size}b"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [CL-5]
    #[test]
    fn rates_and_sizes_are_printed_as_tc_does() {
        assert_eq!(
            [0, 125, 1000, 125_000, 187, 1_250_000_000].map(bits),
            ["0bit", "1Kbit", "8Kbit", "1Mbit", "1496bit", "10Gbit"]
        );
        assert_eq!(
            [0, 64, 2040, 1 << 20, (1 << 20) - 1, u32::MAX].map(bytes),
            ["0b", "64b", "2Kb", "1Mb", "1024Kb", "4096Mb"]
        );
        assert_eq!(bytes(sent(875_000, 1 << 20)), "1024Kb");
    }
}
