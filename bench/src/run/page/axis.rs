//! An axis: values to places in a picture.

/// More lines than any axis has.
const TICKS_MAX: usize = 20;

/// From the least value at one place to the most at another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    /// Even distances. If there is nothing between the ends, one is.
    pub(super) fn linear((least, most): (f64, f64), (from, to): (f64, f64)) -> Axis {
        Axis { least, most: if most > least { most } else { least + 1.0 }, from, to, logarithmic: false }
    }

    /// Even distances of decades, around all of the values, which are 1 or more. There may be none: then `least` is beyond `most`.
    pub(super) fn decades((least, most): (f64, f64), (from, to): (f64, f64)) -> Axis {
        let least = 10f64.powf(least.min(most).max(1.0).log10().floor());
        let most = 10f64.powf(most.max(1.0).log10().ceil()).max(10.0 * least);
        Axis { least, most, from, to, logarithmic: true }
    }

    /// Where `value` lies; what is beyond lies at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = (scale(value) - scale(self.least)) / (scale(self.most) - scale(self.least));
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Values to draw lines at: decades, or some four to eight round numbers.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let within = |value: &f64| *value <= self.most * (1.0 + 1e-9);
        if self.logarithmic {
            return std::iter::successors(Some(self.least), |value| Some(value * 10.0))
                .take_while(within)
                .take(TICKS_MAX)
                .collect();
        }
        let rough = (self.most - self.least) / 5.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.least / step).ceil() * step;
        std::iter::successors(Some(first), |value| Some(value + step)).take_while(within).take(TICKS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_between_the_ends_and_never_beyond() {
        let axis = Axis::linear((10.0, 20.0), (100.0, 0.0));
        assert_eq!([10.0, 15.0, 20.0, 0.0, 99.0].map(|value| axis.place(value)), [100.0, 50.0, 0.0, 100.0, 0.0]);
        let axis = Axis::decades((20.0, 900.0), (0.0, 200.0));
        assert_eq!([10.0, 100.0, 1000.0, 0.0].map(|value| axis.place(value)), [0.0, 100.0, 200.0, 0.0]);
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(Axis::linear((0.0, 3.0), (0.0, 1.0)).ticks(), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(Axis::linear((0.0, 720_000.0), (0.0, 1.0)).ticks(), [0.0, 200_000.0, 400_000.0, 600_000.0]);
        assert_eq!(Axis::decades((20.0, 900.0), (0.0, 1.0)).ticks(), [10.0, 100.0, 1000.0]);
        assert_eq!(Axis::decades((f64::INFINITY, 1.0), (0.0, 1.0)).ticks(), [1.0, 10.0]);
        assert_eq!(Axis::linear((0.0, 0.0), (0.0, 1.0)).ticks().last(), Some(&1.0));
    }
}
