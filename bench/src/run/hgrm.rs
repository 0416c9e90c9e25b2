//! Histograms in the format of HdrHistogram's own tools, `.hgrm`: values are microseconds.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// Lines for each halving of what is left to 100 %.
const TICKS: u32 = 5;

/// Writes the histogram of what is called `name` to `folder`, which is made if it is not there.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(folder: &Path, name: &str, latency: &Histogram<u64>) -> Result<()> {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let path = folder.join(format!("{}.hgrm", name.chars().map(plain).collect::<String>()));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, text(latency)))
        .with_context(|| path.display().to_string())
}

#[expect(clippy::cast_precision_loss, reason = "microseconds for people")]
fn text(latency: &Histogram<u64>) -> String {
    let us = |ns: u64| ns as f64 / 1e3;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for step in latency.iter_quantiles(TICKS) {
        let (value, quantile) = (us(step.value_iterated_to()), step.quantile_iterated_to());
        let count = (step.quantile() * latency.len() as f64).round();
        let _ = write!(text, "{value:>12.3} {quantile:>14.12} {count:>10.0}");
        let _ = if quantile < 1.0 { writeln!(text, " {:>14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
    }
    let (mean, deviation) = (latency.mean() / 1e3, latency.stdev() / 1e3);
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(text, "#[Max     = {:>12.3}, Total count    = {:>12}]", us(latency.max()), latency.len());
    let _ =
        writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", latency.buckets(), latency.distinct_values());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tester::accounts::histogram;

    #[test]
    fn a_file_has_a_line_for_each_step_and_ends_with_the_summary() {
        let mut latency = histogram().unwrap();
        (1..=1000).for_each(|us| latency.saturating_record(us * 1000));
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("new"), "50 % of NDR", &latency).unwrap();
        let text = fs::read_to_string(folder.path().join("new/50---of-NDR.hgrm")).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
        let half = lines.iter().find(|line| line.get(1) == Some(&"0.500000000000")).unwrap();
        assert_eq!(half[2..], ["500", "2.00"]);
        assert!((499.0..=501.0).contains(&half[0].parse::<f64>().unwrap()), "{half:?}");
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }
}
