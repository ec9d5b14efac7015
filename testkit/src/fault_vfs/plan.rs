//! What a power cut leaves of the unsynced.

/// Which of the unsynced steps reached the disk. Steps are numbered from the oldest, data (sector
/// writes and length changes of all files) and names (create, rename, remove) apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// None of them.
    Nothing,
    /// All of them.
    All,
    /// The oldest so many.
    First(usize),
    /// All but one.
    AllBut(usize),
    /// Those whose bit is set, the oldest step being bit 0; steps from the 65th on are lost.
    Only(u64),
    /// Each with probability one half, drawn from this seed.
    Random(u64),
    /// The oldest `whole`, and of the next one's sector only the first `bytes`: a torn sector.
    /// A name is never torn: this means the same as `First(whole)` there.
    Torn {
        /// How many are whole.
        whole: usize,
        /// How much of the next is new, in bytes.
        bytes: usize,
    },
}

impl Keep {
    /// How much of step `number` (of the sector's bytes) reached the disk: `None` for all of it.
    pub(super) fn verdict(self, number: usize) -> Verdict {
        let kept = match self {
            Self::Nothing => false,
            Self::All => true,
            Self::First(count) => number < count,
            Self::AllBut(lost) => number != lost,
            Self::Only(mask) => {
                u32::try_from(number)
                    .ok()
                    .and_then(|shift| mask.checked_shr(shift))
                    .unwrap_or(0)
                    & 1
                    == 1
            }
            Self::Random(seed) => mix(seed ^ mix(number as u64)) & 1 == 1,
            Self::Torn { whole, bytes } => {
                if number == whole {
                    return Verdict::Torn(bytes);
                }
                number < whole
            }
        };
        if kept { Verdict::Kept } else { Verdict::Lost }
    }
}

/// What became of one unsynced step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Kept,
    Lost,
    /// Only so many of its bytes are new.
    Torn(usize),
}

/// How a life of the file system ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// The process dies (kill -9) and the kernel lives: everything is still readable, and what was
    /// not synced still is not.
    Kill,
    /// The power goes: the synced is there, of the rest what the plan says. All that is left is
    /// durable.
    PowerLoss {
        /// Of the sector writes and length changes.
        data: Keep,
        /// Of the created, renamed and removed names.
        names: Keep,
    },
}

impl CrashPlan {
    /// A power cut that takes everything unsynced.
    pub const LOSE_UNSYNCED: Self = Self::PowerLoss {
        data: Keep::Nothing,
        names: Keep::Nothing,
    };

    /// A power cut just after the disk had written everything by itself.
    pub const KEEP_UNSYNCED: Self = Self::PowerLoss {
        data: Keep::All,
        names: Keep::All,
    };

    /// A power cut that loses a random half, of data and of names.
    #[must_use]
    pub const fn random(seed: u64) -> Self {
        Self::PowerLoss {
            data: Keep::Random(seed),
            names: Keep::Random(!seed),
        }
    }
}

/// How thoroughly [`plans`] enumerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Up to this many unsynced data steps, all their subsets are tried (at most 16).
    pub subsets_max: usize,
    /// Above that: so many random subsets, drawn from `seed`.
    pub random: usize,
    /// Above that: at most so many prefixes, evenly spread.
    pub prefixes_max: usize,
    /// Where torn sectors are cut, in bytes from their beginning; empty for whole sectors only.
    pub tear_at: &'static [usize],
    /// What the random subsets are drawn from.
    pub seed: u64,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self {
            subsets_max: 6,
            random: 16,
            prefixes_max: 64,
            tear_at: &[],
            seed: 1,
        }
    }
}

/// The crash plans worth trying with so many unsynced steps: kill, all, nothing, every prefix,
/// every subset (or a sample), each with the names all kept, all lost and in every subset.
#[must_use]
pub fn plans(data_steps: usize, name_steps: usize, limits: &PlanLimits) -> Vec<CrashPlan> {
    let mut out = vec![CrashPlan::Kill];
    for names in keeps(name_steps, limits, &[]) {
        for data in keeps(data_steps, limits, limits.tear_at) {
            out.push(CrashPlan::PowerLoss { data, names });
        }
    }
    out
}

fn keeps(steps: usize, limits: &PlanLimits, tear_at: &[usize]) -> Vec<Keep> {
    if steps == 0 {
        return vec![Keep::Nothing];
    }
    let mut out = Vec::new();
    if steps <= limits.subsets_max.min(16) {
        out.extend((0..1_u64 << steps).map(Keep::Only));
    } else {
        out.extend([Keep::Nothing, Keep::All, Keep::AllBut(0)]);
        let stride = steps.div_ceil(limits.prefixes_max.max(1)).max(1);
        out.extend((1..steps).step_by(stride).map(Keep::First));
        out.extend((0..limits.random).map(|n| Keep::Random(mix(limits.seed ^ n as u64))));
    }
    for bytes in tear_at {
        let stride = steps.div_ceil(limits.prefixes_max.max(1)).max(1);
        out.extend((0..steps).step_by(stride).map(|whole| Keep::Torn {
            whole,
            bytes: *bytes,
        }));
    }
    out
}

/// Spreads a number over 64 bits (the finaliser of splitmix64).
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subset_of_a_few_steps_is_tried() {
        let limits = PlanLimits {
            subsets_max: 3,
            ..PlanLimits::default()
        };
        let all = plans(3, 1, &limits);
        assert_eq!(all.len(), 1 + 8 * 2);
        assert!(all.contains(&CrashPlan::PowerLoss {
            data: Keep::Only(5),
            names: Keep::Only(1)
        }));
    }

    #[test]
    fn many_steps_are_sampled_with_every_prefix() {
        let limits = PlanLimits {
            tear_at: &[100],
            ..PlanLimits::default()
        };
        let all = plans(40, 0, &limits);
        for count in 1..40 {
            let plan = CrashPlan::PowerLoss {
                data: Keep::First(count),
                names: Keep::Nothing,
            };
            assert!(all.contains(&plan), "prefix {count}");
        }
        let torn = Keep::Torn {
            whole: 39,
            bytes: 100,
        };
        assert!(all.contains(&CrashPlan::PowerLoss {
            data: torn,
            names: Keep::Nothing
        }));
    }
}
