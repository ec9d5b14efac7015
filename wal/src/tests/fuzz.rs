//! Whatever stands in the files, opening them ends, with a log or an error, and takes no more
//! memory than the files explain. Mutations are drawn from a seed; some repair the checksums they
//! break, so that what is behind these is reached.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use raftwerk_raft::{LogIndex, Storage, Term};
use raftwerk_storage::folder::StoreUuid;
use raftwerk_testkit::crash::Progress;
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Image};
use raftwerk_testkit::history::History;

use super::workload::{DIR, Known, Small, keep_prefix, models, open_with, prepare, run_on};
use crate::segment::format::{
    FRAME_HEADER_BYTES, FrameBuf, FrameHeader, Item, ItemKind, Place, SegmentId, read_directory,
    sum_sections,
};
use crate::segment::header::{SegmentHeader, file_name};
use crate::{Options, inspect};

/// Set for the process that does the work, within a limit of memory.
const LIMITED: &str = "RAFTWERK_WAL_FUZZ";
/// What the whole process may map, in KiB; the stacks of threads and the program count.
const LIMIT_KIB: u64 = 1 << 20;
#[cfg(not(feature = "long-tests"))]
const MUTANTS: u64 = 300;
#[cfg(feature = "long-tests")]
const MUTANTS: u64 = 20_000;

fn log() -> Image {
    let vfs = FaultVfs::new();
    let wal = open_with(&vfs, Small::Pages8.options()).unwrap();
    prepare(&wal);
    let progress = Progress::new(Known::default());
    let taken = run_on(&wal, &progress, &models(), Small::Pages8.history(51), 40);
    assert_eq!(taken, 40);
    vfs.image()
}

/// A frame of a file: its header, its items and its body.
fn frames(bytes: &[u8], uuid: StoreUuid) -> Vec<(FrameHeader, Vec<Item>, Vec<u8>)> {
    let pages = (0..bytes.len()).step_by(512);
    let frame = |at: usize| {
        let (header, _) = FrameHeader::decode(&bytes[at..], uuid).ok()?;
        let body = at + FRAME_HEADER_BYTES..at + FRAME_HEADER_BYTES + header.body_bytes as usize;
        let directory = bytes.get(body.end..body.end + header.directory_bytes as usize)?;
        let items = read_directory(&header, uuid, directory).ok()?;
        Some((header, items, bytes[body].to_vec()))
    };
    pages.filter_map(frame).collect()
}

struct Mutator {
    dice: History,
}

impl Mutator {
    fn below(&mut self, end: usize) -> usize {
        self.dice.below(end as u64) as usize
    }

    /// A number that somebody may take for a size.
    fn number(&mut self) -> u64 {
        let shift = self.dice.below(64);
        let near = self.dice.below(3);
        match self.dice.below(3) {
            0 => self.dice.below(300),
            1 => u64::MAX >> shift,
            _ => (1_u64 << shift).wrapping_sub(near),
        }
    }

    /// Bytes that are no bytes of a log, or those of another place.
    fn raw(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = self.below(bytes.len());
        let from = self.below(bytes.len());
        let count = 1 + self.below(600).min(bytes.len() - at.max(from) - 1);
        match self.dice.below(6) {
            0 => bytes[at] ^= 1 << self.dice.below(8),
            1 => bytes[at..at + count].fill(0),
            2 => bytes.copy_within(from..from + count, at),
            3 => bytes.truncate(at),
            4 => {
                let number = self.number().to_le_bytes();
                let count = number.len().min(bytes.len() - at);
                bytes[at..at + count].copy_from_slice(&number[..count]);
            }
            _ => bytes.resize(bytes.len() + self.dice.below(20_000) as usize, 0xa5),
        }
    }

    /// A header whose checksum is right.
    fn header(&mut self, bytes: &mut [u8]) {
        let Ok(mut header) = SegmentHeader::decode(bytes) else {
            return;
        };
        match self.dice.below(5) {
            0 => header.capacity = self.number(),
            1 => header.page_bytes = 512 << self.dice.below(8),
            2 => header.zeroed = false,
            3 => header.id.number = self.number(),
            _ => header.id.life = self.number(),
        }
        let page = header.encode();
        bytes[..64].copy_from_slice(&page[..64]);
    }

    /// A frame whose checksums are right.
    fn frame(&mut self, bytes: &mut [u8], uuid: StoreUuid) {
        let mut frames = frames(bytes, uuid);
        if frames.is_empty() {
            return;
        }
        let at = self.below(frames.len());
        let (header, mut items, mut body) = frames.swap_remove(at);
        let mut place = Place {
            uuid,
            id: header.id,
            page_bytes: 512,
            offset: header.offset,
            lsn: header.lsn,
            durable: header.durable,
            chain: header.chain,
        };
        for _ in 0..=self.dice.below(3) {
            let number = self.number();
            let item = self.below(items.len());
            match self.dice.below(7) {
                0 => place.lsn = number,
                1 => place.durable = number,
                2 => {
                    place.id = SegmentId {
                        life: number,
                        ..place.id
                    }
                }
                3 => items[item].step = number,
                4 => self.item(&mut items[item]),
                5 => items.swap_remove(item).bytes = 0,
                _ if body.is_empty() => {}
                _ => {
                    let at = self.below(body.len());
                    body[at] = self.dice.below(256) as u8;
                }
            }
            if items.is_empty() {
                return;
            }
        }
        // Sections must tile the body, or nobody looks behind the directory.
        let missing =
            body.len() as i64 - items.iter().map(|item| i64::from(item.bytes)).sum::<i64>();
        let last = items.last_mut().unwrap();
        last.bytes = (i64::from(last.bytes) + missing).max(0) as u32;
        if items.iter().map(|item| item.bytes as usize).sum::<usize>() != body.len() {
            return;
        }
        sum_sections(&place, 0, &mut items, &body);
        let mut frame = FrameBuf::default();
        frame.out().extend_from_slice(&body);
        frame.seal(header.kind, &place, &items);
        let (at, frame) = (header.offset as usize, frame.frame());
        if let Some(there) = bytes.get_mut(at..at + frame.len()) {
            there.copy_from_slice(frame);
        }
    }

    fn item(&mut self, item: &mut Item) {
        let number = self.number();
        match &mut item.kind {
            ItemKind::Entries(span) | ItemKind::Relocated { span, .. } => {
                match self.dice.below(4) {
                    0 => span.first = LogIndex(number),
                    1 => span.count = number as u32,
                    2 => span.term = Term(number),
                    _ => span.prev_term = Term(number),
                }
            }
            kind => {
                *kind = match self.dice.below(4) {
                    0 => ItemKind::State(number as u8),
                    1 => ItemKind::Checkpoint,
                    2 => ItemKind::Extents,
                    _ => ItemKind::Log,
                }
            }
        }
    }

    /// The same disk with a few files mutated.
    fn mutant(&mut self, image: &Image) -> FaultVfs {
        let vfs = image.after(&CrashPlan::LOSE_UNSYNCED);
        let files: Vec<PathBuf> = vfs.files();
        let identity = vfs.read_file(&Path::new(DIR).join("IDENTITY")).unwrap();
        let changed = FaultVfs::new();
        let uuid = uuid_of(&vfs);
        let mut contents: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for path in files {
            let bytes = vfs.read_file(&path).unwrap();
            contents.push((path, bytes));
        }
        for _ in 0..=self.dice.below(4) {
            let at = self.below(contents.len());
            let from = self.below(contents.len());
            match self.dice.below(12) {
                0 => {
                    let copy = contents[from].1.clone();
                    contents[at].1 = copy;
                }
                1 => {
                    let number = self.number();
                    let copy = contents[at].1.clone();
                    contents.push((Path::new(DIR).join(file_name(number)), copy));
                }
                2 if contents.len() > 2 => drop(contents.swap_remove(at)),
                3..5 => self.header(&mut contents[at].1),
                5..9 => self.frame(&mut contents[at].1, uuid),
                _ => self.raw(&mut contents[at].1),
            }
        }
        contents.sort();
        contents.dedup_by(|one, other| one.0 == other.0);
        contents.retain(|(path, _)| !path.ends_with("IDENTITY"));
        contents.push((Path::new(DIR).join("IDENTITY"), identity));
        write_all(&changed, &contents);
        changed
    }
}

fn uuid_of(vfs: &FaultVfs) -> StoreUuid {
    raftwerk_storage::folder::Folder::peek(vfs, Path::new(DIR))
        .unwrap()
        .uuid
}

pub(super) fn write_all(vfs: &FaultVfs, contents: &[(PathBuf, Vec<u8>)]) {
    use raftwerk_storage::vfs::{OpenMode, SyncSite, Vfs};
    let site = SyncSite("fuzz");
    vfs.create_dir_all(Path::new(DIR), site).unwrap();
    for (path, bytes) in contents {
        let file = vfs.open(path, OpenMode::CreateNew).unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync_data(site).unwrap();
    }
    vfs.sync_dir(Path::new(DIR), site).unwrap();
}

/// Everything that reads files which somebody else wrote.
fn look(vfs: &FaultVfs, options: Options) -> bool {
    let dir = Path::new(DIR);
    let _ = inspect::verify(vfs, dir);
    let _ = inspect::dump(vfs, dir, &mut |_| ControlFlow::Continue(()));
    let Ok(wal) = open_with(vfs, options) else {
        return false;
    };
    for group in wal.groups().unwrap() {
        let log = wal.open_group(group).unwrap().log;
        let _ = log.read(log.first()..log.last().index.next(), 1 << 20);
    }
    true
}

#[test]
fn whatever_stands_in_the_files_opening_them_ends() {
    if std::env::var_os(LIMITED).is_some() {
        let image = log();
        let mut opened = 0;
        for seed in 0..MUTANTS {
            let mut mutator = Mutator {
                dice: History::new(seed, 0),
            };
            let vfs = mutator.mutant(&image);
            let options = match seed % 3 {
                0 => Small::Pages8.options(),
                _ => Options { ..keep_prefix() },
            };
            let ended = catch_unwind(AssertUnwindSafe(|| look(&vfs, options)));
            opened += u64::from(ended.unwrap_or_else(|_| panic!("seed {seed}")));
        }
        println!("{MUTANTS} mutants, {opened} opened");
        assert!(opened > MUTANTS / 10 && opened < MUTANTS, "{opened}");
        return;
    }
    let name = "tests::fuzz::whatever_stands_in_the_files_opening_them_ends";
    let script = format!("ulimit -v {LIMIT_KIB} && exec \"$0\" --exact {name} --nocapture");
    let outcome = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(LIMITED, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stdout);
    println!("{said}");
    let complained = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{said}{complained}");
    assert!(said.contains("mutants"), "{said}");
}
