//! Chance, from a seed: the same seed makes the same world, on every machine.

use towpath::model::{Ref, Revision};

/// A stream of numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not make neighbouring worlds.
        let mut it = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
        it.next();
        it
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 to below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// From `least` to `most`, both included.
    pub(crate) fn span(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from.get(at).cloned()
    }
}

fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A commit id that follows from content, as in git.
pub(crate) fn commit_id(parts: &[&[u8]]) -> Revision {
    let mut bytes = [0; 20];
    for (lane, chunk) in (1_u64..).zip(bytes.chunks_mut(8)) {
        let mut hash = lane.wrapping_mul(0xcbf2_9ce4_8422_2325);
        for byte in parts.iter().flat_map(|part| part.iter().chain([&0xff])) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let length = chunk.len();
        chunk.copy_from_slice(&mix(hash).to_be_bytes()[..length]);
    }
    Revision::new(bytes)
}

/// What is really so about a ref; nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    Good,
    InstallFails,
    SmokeFails,
    MigrationFails,
    NeverBuilt,
}

/// The number of worlds in which every ref is good.
pub(crate) const CALM: u64 = u64::MAX;

/// The hidden truth about a ref of a world.
pub(crate) fn truth(world: u64, reference: &Ref) -> Truth {
    let text = reference.as_str();
    if text == "1.0.0" || world == CALM {
        return Truth::Good;
    }
    let id = commit_id(&[&world.to_be_bytes(), text.as_bytes()]);
    match id.as_bytes()[0] % 32 {
        0 | 1 => Truth::InstallFails,
        2..=4 => Truth::SmokeFails,
        5 | 6 => Truth::MigrationFails,
        7 => Truth::NeverBuilt,
        _ => Truth::Good,
    }
}

/// Whether a ref really contains a hot patch.
pub(crate) fn contains(world: u64, patch: &Ref, reference: &Ref) -> bool {
    let id = commit_id(&[
        &world.to_be_bytes(),
        patch.as_str().as_bytes(),
        reference.as_str().as_bytes(),
    ]);
    id.as_bytes()[0].is_multiple_of(2)
}
