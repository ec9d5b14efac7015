//! Medians and quartiles.

/// The three quartiles of some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// A quarter of the samples lies below.
    pub lower: f64,
    /// Half of the samples lies below.
    pub median: f64,
    /// Three quarters of the samples lie below.
    pub upper: f64,
}

impl Quartiles {
    /// The quartiles of `samples`, interpolated between neighbours; `None` without any sample.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |fraction: f64| -> Option<f64> {
            let place = fraction * (sorted.len().checked_sub(1)?) as f64;
            let low = *sorted.get(place.floor() as usize)?;
            let high = *sorted.get(place.ceil() as usize)?;
            Some(low + (high - low) * place.fract())
        };
        Some(Self {
            lower: at(0.25)?,
            median: at(0.5)?,
            upper: at(0.75)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_interpolated_and_ignore_the_order() {
        let found = Quartiles::of(&[4.0, 1.0, 3.0, 2.0, 5.0]).unwrap();
        assert_eq!(
            found,
            Quartiles {
                lower: 2.0,
                median: 3.0,
                upper: 4.0
            }
        );
        let even = Quartiles::of(&[1.0, 2.0]).unwrap();
        assert_eq!(even.median, 1.5);
    }

    #[test]
    fn no_samples_have_no_quartiles() {
        assert_eq!(Quartiles::of(&[]), None);
        assert_eq!(Quartiles::of(&[f64::NAN]), None);
    }
}
