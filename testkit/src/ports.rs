//! Ports of loopback for servers that tests start.
//!
//! A port that was free when it was looked at may be somebody else's when it is used, or used again
//! after a restart. Who could take it: the kernel, for a connection of any process, so ports that
//! it hands out are left alone (where it hands out all of them, nothing is left but to take some of
//! those); and another test process that looks for ports too, so each claims a block of them by
//! listening on the block's first port until it ends.
#![allow(
    clippy::panic,
    reason = "a helper of tests fails as a test does: there is no port left"
)]

use std::net::{Ipv4Addr, TcpListener};

use parking_lot::Mutex;

/// So far above each port that is taken is another one that is the caller's, too: where
/// `raftwerk up` puts the peers of the member whose clients are below.
pub const PEERS_ABOVE: u16 = 100;

/// A block: the port that claims it, those to take, and as many for [`PEERS_ABOVE`].
const BLOCK: u16 = 1 + 2 * PEERS_ABOVE;
/// Below this are ports that people know by heart.
const LOWEST: u16 = 10_000;
const HIGHEST: u16 = 65_000;
/// Which ports the kernel hands out.
const KERNEL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// What it hands out unless it was told otherwise.
const KERNEL_DEFAULT: &str = "32768 60999";

static PORTS: Mutex<Option<Ports>> = Mutex::new(None);

/// Ports that nobody listens on and that nobody else is given.
///
/// # Panics
/// When the machine has none left.
#[must_use]
pub fn take<const N: usize>() -> [u16; N] {
    let mut next = take_row(u16::try_from(N).unwrap_or(u16::MAX));
    [(); N].map(|()| {
        next += 1;
        next - 1
    })
}

/// The first of `count` such ports in a row.
///
/// # Panics
/// When the machine has none left, or `count` is over [`PEERS_ABOVE`].
#[must_use]
pub fn take_row(count: u16) -> u16 {
    let mut ports = PORTS.lock();
    let ports = ports.get_or_insert_with(|| {
        let range = std::fs::read_to_string(KERNEL);
        Ports::new(&range.unwrap_or_default(), std::process::id())
    });
    ports.take_row(count)
}

/// What one process gives out.
struct Ports {
    /// The first port of each block there is, this process's favourite in front.
    blocks: Vec<u16>,
    /// Held, so that the blocks stay claimed.
    claims: Vec<TcpListener>,
    /// The current block's next port.
    next: u16,
    /// The end of what the current block has to give.
    end: u16,
}

impl Ports {
    fn new(kernel: &str, process: u32) -> Self {
        let mut blocks = blocks(kernel);
        // Test processes that run at the same time begin at different places.
        let favourite = process.wrapping_mul(2_654_435_761) as usize % blocks.len().max(1);
        blocks.rotate_left(favourite);
        Self {
            blocks,
            claims: Vec::new(),
            next: 0,
            end: 0,
        }
    }

    fn take_row(&mut self, count: u16) -> u16 {
        assert!(count <= PEERS_ABOVE, "{count} ports in a row are too many");
        loop {
            if self.next + count > self.end {
                self.claim();
            }
            let first = self.next;
            let mut row = (first..first + count).flat_map(|port| [port, port + PEERS_ABOVE]);
            if row.all(|port| listen(port).is_some()) {
                self.next += count;
                return first;
            }
            self.next += 1;
        }
    }

    /// Goes on to a block that is nobody's.
    fn claim(&mut self) {
        let claimed = self.blocks.iter().find_map(|&first| {
            let claim = listen(first)?;
            Some((first, claim))
        });
        let Some((first, claim)) = claimed else {
            panic!("no block of free ports is left");
        };
        self.claims.push(claim);
        self.next = first + 1;
        self.end = self.next + PEERS_ABOVE;
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

/// The first ports of all blocks outside of what the kernel hands out.
fn blocks(kernel: &str) -> Vec<u16> {
    let (low, high) = range(kernel)
        .or_else(|| range(KERNEL_DEFAULT))
        .unwrap_or((HIGHEST, HIGHEST));
    let within = |from: u16, to: u16| (from..to.saturating_sub(BLOCK)).step_by(BLOCK.into());
    let below = within(LOWEST, low.min(HIGHEST));
    let above = within(high.saturating_add(1).max(LOWEST), HIGHEST);
    let found: Vec<u16> = below.chain(above).collect();
    match found.is_empty() {
        true => within(LOWEST, HIGHEST).collect(),
        false => found,
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_that_the_kernel_hands_out_are_left_alone() {
        for (kernel, low, high) in [
            ("32768\t60999\n", 32_768, 60_999),
            ("nonsense", 32_768, 60_999),
            ("1024 30000", 1024, 30_000),
            ("20000 65535", 20_000, 65_535),
        ] {
            let blocks = blocks(kernel);
            assert!(blocks.len() > 20, "{kernel}: {blocks:?}");
            for first in blocks {
                let last = first + BLOCK - 1;
                assert!(first >= LOWEST && last < HIGHEST, "{kernel}: {first}");
                assert!(last < low || first > high, "{kernel}: {first}");
            }
        }
        // It hands out all there are.
        assert!(blocks("1024 65535").len() > 100);
    }

    #[test]
    fn no_port_is_given_twice_and_not_to_two_processes() {
        let kernel = KERNEL_DEFAULT;
        // Of the same favourite, so that they want the same blocks.
        let mut all = [Ports::new(kernel, 7), Ports::new(kernel, 7)];
        let mut given = BTreeSet::new();
        for _ in 0..30 {
            for ports in &mut all {
                let first = ports.take_row(7);
                for port in first..first + 7 {
                    assert!(
                        given.insert(port) && given.insert(port + PEERS_ABOVE),
                        "{port}"
                    );
                }
            }
        }
        assert!(all.iter().all(|ports| ports.claims.len() > 1));
    }

    #[test]
    fn ports_that_somebody_listens_on_are_passed_over() {
        let mut ports = Ports::new(KERNEL_DEFAULT, 7);
        let first = ports.take_row(1);
        // In a row's middle, and where its peers would be.
        let held = [first + 2, first + PEERS_ABOVE + 5];
        let listeners = held.map(|port| listen(port).unwrap());
        let given = ports.take_row(3);
        for port in given..given + 3 {
            let peer = port + PEERS_ABOVE;
            assert!(!held.contains(&port) && !held.contains(&peer), "{port}");
        }
        drop(listeners);
    }

    #[test]
    fn taken_ports_are_free_and_differ() {
        let [first, second] = take();
        assert_ne!(first, second);
        assert!(listen(first).is_some() && listen(second + PEERS_ABOVE).is_some());
    }
}
