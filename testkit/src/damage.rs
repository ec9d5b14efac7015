//! Damages what a disk holds, one place at a time, and counts what a store says to it. Two threads
//! share the work.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use parking_lot::Mutex;

use crate::fault_vfs::{CrashPlan, FaultVfs, Image};

/// How many threads do damage.
const THREADS: usize = 2;
/// How many damages a thread takes at once.
const DAMAGES_AT_ONCE: usize = 32;

/// One place damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit is the other way round.
    FlippedBit {
        /// The file.
        path: PathBuf,
        /// The byte.
        offset: u64,
        /// The bit in it, 0 to 7.
        bit: u8,
    },
    /// A sector holds zeros.
    ZeroedSector {
        /// The file.
        path: PathBuf,
        /// Its number in the file.
        sector: u64,
    },
    /// Two sectors, of one file or of two, stand in each other's place.
    SwappedSectors {
        /// The one.
        one: (PathBuf, u64),
        /// The other.
        other: (PathBuf, u64),
    },
    /// A sector holds what it never held, or held before: a write that the disk lost or put in the
    /// wrong place.
    ReplacedSector {
        /// The file.
        path: PathBuf,
        /// Its number in the file.
        sector: u64,
        /// What stands there.
        bytes: Vec<u8>,
    },
    /// Reading a sector fails.
    UnreadableSector {
        /// The file.
        path: PathBuf,
        /// Its number in the file.
        sector: u64,
    },
}

impl Damage {
    /// Does the damage.
    ///
    /// # Errors
    /// When the place is not there.
    pub fn inflict(&self, vfs: &FaultVfs) -> io::Result<()> {
        match self {
            Self::FlippedBit { path, offset, bit } => vfs.flip_bit(path, *offset, *bit),
            Self::ZeroedSector { path, sector } => vfs.zero_sector(path, *sector),
            Self::SwappedSectors { one, other } => {
                vfs.swap_sectors((&one.0, one.1), (&other.0, other.1))
            }
            Self::ReplacedSector {
                path,
                sector,
                bytes,
            } => vfs.poke(path, *sector * vfs.sector_bytes() as u64, bytes),
            Self::UnreadableSector { path, sector } => vfs.break_sector(path, *sector),
        }
    }

    /// The files and the sectors in them that are concerned.
    #[must_use]
    pub fn places(&self, sector_bytes: u64) -> Vec<(PathBuf, u64)> {
        match self {
            Self::FlippedBit { path, offset, .. } => vec![(path.clone(), offset / sector_bytes)],
            Self::SwappedSectors { one, other } => vec![one.clone(), other.clone()],
            Self::ZeroedSector { path, sector }
            | Self::ReplacedSector { path, sector, .. }
            | Self::UnreadableSector { path, sector } => vec![(path.clone(), *sector)],
        }
    }
}

/// Which damage is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamageOptions {
    /// Every so-manieth bit is flipped; 1 for all, 0 for none.
    pub bit_stride: u64,
    /// Each sector that is not zero is zeroed.
    pub zeroed: bool,
    /// Each pair of sectors that differ is swapped, across files too.
    pub swapped: bool,
    /// Each sector is made unreadable.
    pub unreadable: bool,
}

impl Default for DamageOptions {
    fn default() -> Self {
        Self {
            bit_stride: 1,
            zeroed: true,
            swapped: true,
            unreadable: true,
        }
    }
}

/// The first damage that a store did not answer as it must.
#[derive(Clone, Debug)]
pub struct DamageFailure {
    /// What was done to it.
    pub damage: Damage,
    /// What was wrong with the answer.
    pub reason: String,
}

impl fmt::Display for DamageFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.damage, self.reason)
    }
}

impl std::error::Error for DamageFailure {}

struct Sector {
    path: PathBuf,
    number: u64,
    bytes: Vec<u8>,
}

fn sectors(vfs: &FaultVfs) -> Vec<Sector> {
    let size = vfs.sector_bytes();
    let mut out = Vec::new();
    for path in vfs.files() {
        let bytes = vfs.read_file(&path).unwrap_or_default();
        for (number, bytes) in (0..).zip(bytes.chunks(size)) {
            out.push(Sector {
                path: path.clone(),
                number,
                bytes: bytes.to_vec(),
            });
        }
    }
    out
}

/// Swaps of sectors that stand so many sectors `apart` in one file and differ. All pairs, which
/// [`DamageOptions::swapped`] tries, are too many of a large file.
#[must_use]
pub fn swaps(image: &Image, apart: &[u64]) -> Vec<Damage> {
    let sectors = sectors(&image.after(&CrashPlan::Kill));
    let mut swaps = Vec::new();
    for one in &sectors {
        let others = sectors.iter().filter(|other| {
            let distance = other.number.checked_sub(one.number);
            other.path == one.path && distance.is_some_and(|distance| apart.contains(&distance))
        });
        let differ = others.filter(|other| other.bytes != one.bytes);
        swaps.extend(differ.map(|other| Damage::SwappedSectors {
            one: (one.path.clone(), one.number),
            other: (other.path.clone(), other.number),
        }));
    }
    swaps
}

/// Damages the files of `image`, as a kill would leave them, in one place after another; `judge`
/// opens the store and says what it made of it. Counts the verdicts, for a test to state how many
/// of each it wants.
///
/// # Errors
/// The first damage whose answer `judge` refused.
pub fn damage_points<V: Ord + Send>(
    image: &Image,
    options: &DamageOptions,
    judge: impl Fn(&FaultVfs, &Damage) -> Result<V, String> + Sync,
) -> Result<BTreeMap<V, u64>, Box<DamageFailure>> {
    damage_each(image, damages(image, *options), judge)
}

/// Every damage that `options` name, made as it is asked for: there is one for every bit.
pub fn damages(
    image: &Image,
    options: DamageOptions,
) -> impl Iterator<Item = Damage> + Send + use<> {
    let whole = image.after(&CrashPlan::Kill);
    let (sectors, size) = (sectors(&whole), whole.sector_bytes() as u64);
    (0..sectors.len()).flat_map(move |at| places(&sectors, at, size, &options))
}

/// As [`damage_points`], for the damages that are given.
///
/// # Errors
/// The first damage whose answer `judge` refused.
pub fn damage_each<V: Ord + Send>(
    image: &Image,
    damages: impl IntoIterator<Item = Damage, IntoIter: Send>,
    judge: impl Fn(&FaultVfs, &Damage) -> Result<V, String> + Sync,
) -> Result<BTreeMap<V, u64>, Box<DamageFailure>> {
    let damages = Mutex::new(damages.into_iter().enumerate());
    let failed: Mutex<Option<(usize, Box<DamageFailure>)>> = Mutex::default();
    let verdicts = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let some: Vec<_> = damages.lock().by_ref().take(DAMAGES_AT_ONCE).collect();
            if some.is_empty() || failed.lock().is_some() {
                return;
            }
            for (number, damage) in some {
                let vfs = image.after(&CrashPlan::Kill);
                let verdict = match damage.inflict(&vfs) {
                    Ok(()) => judge(&vfs, &damage),
                    Err(error) => Err(format!("could not be done: {error}")),
                };
                let reason = match verdict {
                    Ok(verdict) => {
                        *verdicts.lock().entry(verdict).or_insert(0) += 1;
                        continue;
                    }
                    Err(reason) => reason,
                };
                let mut first = failed.lock();
                if first.as_ref().is_none_or(|(other, _)| number < *other) {
                    *first = Some((number, Box::new(DamageFailure { damage, reason })));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(work);
        }
        work();
    });
    match failed.into_inner() {
        Some((_, failure)) => Err(failure),
        None => Ok(verdicts.into_inner()),
    }
}

/// What `options` name of the sector `at`.
fn places(sectors: &[Sector], at: usize, size: u64, options: &DamageOptions) -> Vec<Damage> {
    let mut places = Vec::new();
    let Some(sector) = sectors.get(at) else {
        return places;
    };
    let (path, number) = (sector.path.clone(), sector.number);
    if options.unreadable {
        places.push(Damage::UnreadableSector {
            path: path.clone(),
            sector: number,
        });
    }
    if options.zeroed && sector.bytes.iter().any(|byte| *byte != 0) {
        places.push(Damage::ZeroedSector {
            path: path.clone(),
            sector: number,
        });
    }
    for other in sectors.iter().skip(at + 1) {
        if options.swapped && other.bytes != sector.bytes {
            let (one, other) = ((path.clone(), number), (other.path.clone(), other.number));
            places.push(Damage::SwappedSectors { one, other });
        }
    }
    if options.bit_stride > 0 {
        let first = number * size * 8;
        let bits = first..first + sector.bytes.len() as u64 * 8;
        for bit in bits.filter(|bit| bit.is_multiple_of(options.bit_stride)) {
            let path = path.clone();
            places.push(Damage::FlippedBit {
                path,
                offset: bit / 8,
                bit: (bit % 8) as u8,
            });
        }
    }
    places
}
