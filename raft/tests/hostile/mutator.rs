//! Bytes to feed to the bodies: the same for the same seed.

/// Inputs that are kept to be changed a little.
const KEPT_MAX: usize = 64;

pub(crate) struct Mutator {
    state: u64,
    kept: Vec<Vec<u8>>,
}

impl Mutator {
    /// Begins with some inputs that are known to lead somewhere.
    pub(crate) fn new(seed: u64, kept: Vec<Vec<u8>>) -> Self {
        Self { state: seed, kept }
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    /// An input of at most `len_max` bytes: fresh, or an earlier one with a few changes.
    pub(crate) fn input(&mut self, len_max: usize) -> Vec<u8> {
        let mut input = if self.kept.is_empty() || self.below(4) == 0 {
            let len = 1 + self.below(len_max);
            (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
        } else {
            let at = self.below(self.kept.len());
            self.kept[at].clone()
        };
        for _ in 0..self.below(6) {
            self.change(&mut input);
        }
        input.truncate(len_max);
        if self.below(16) == 0 {
            let at = self.below(KEPT_MAX);
            match self.kept.get_mut(at) {
                Some(kept) => kept.clone_from(&input),
                None => self.kept.push(input.clone()),
            }
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let bounds = [0, 1, 0x7f, 0x80, 0xfe, 0xff];
        let byte = match self.below(3) {
            0 => bounds[self.below(bounds.len())],
            _ => self.next().to_le_bytes()[0],
        };
        match self.below(5) {
            0 => input.insert(at, byte),
            1 => input.truncate(at),
            2 => {
                let again = input[at..].to_vec();
                input.extend(again);
            }
            _ => match input.get_mut(at) {
                Some(place) => *place = byte,
                None => input.push(byte),
            },
        }
    }
}

/// Takes choices from bytes. Zeros once they are used up.
pub(crate) struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *first
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Below `bound`, at most 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
