//! What was expected of routers, and what they chose then.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::trace::Foreteller;

/// What one foreteller expects of one router.
struct Guess {
    by: Foreteller,
    layer: u32,
    /// Experts, each with the bytes that were read of it since.
    experts: BTreeMap<u32, u64>,
}

#[derive(Default)]
struct Account {
    foretold: u64,
    right: u64,
    chosen: u64,
    read_bytes: u64,
    unused_bytes: u64,
}

/// Collects guesses. One lives until a router has chosen after it: the layer's own, or another one.
#[derive(Default)]
pub struct Guesses {
    open: Vec<Guess>,
    /// The layer whose router has chosen last, and what it chose for all tokens of the batch.
    chosen: Option<(u32, BTreeSet<u32>)>,
    accounts: BTreeMap<Foreteller, Account>,
}

impl Guesses {
    /// `by` expects that the router of `layer` will choose `expert`.
    pub fn guessed(&mut self, by: Foreteller, layer: u32, expert: u32) {
        self.settle();
        let known = self.open.iter_mut().find(|guess| guess.by == by && guess.layer == layer);
        match known {
            Some(guess) => {
                guess.experts.entry(expert).or_default();
            }
            None => self.open.push(Guess { by, layer, experts: BTreeMap::from([(expert, 0)]) }),
        }
    }

    /// A read of so many bytes of `expert` of `layer` begins that no thread sleeps for.
    pub fn read(&mut self, layer: u32, expert: u32, bytes: u64) {
        let is_open = self.chosen.is_none();
        let about = self.open.iter_mut().filter(|guess| is_open && guess.layer == layer);
        about.filter_map(|guess| guess.experts.get_mut(&expert)).for_each(|read| *read += bytes);
    }

    /// The router of `layer` chose `expert` for a token.
    pub fn routed(&mut self, layer: u32, expert: u32) {
        if self.chosen.as_ref().is_some_and(|(last, _)| *last != layer) {
            self.settle();
        }
        self.chosen.get_or_insert_with(|| (layer, BTreeSet::new())).1.insert(expert);
    }

    /// Records are missing: what was expected may have had its time.
    pub fn clear(&mut self) {
        self.settle();
        self.open.clear();
    }

    /// A router has chosen for all tokens of its batch: accounts for what was expected of it.
    fn settle(&mut self) {
        let Some((layer, chosen)) = self.chosen.take() else { return };
        for guess in self.open.drain(..).filter(|guess| guess.layer == layer) {
            let account = self.accounts.entry(guess.by).or_default();
            account.chosen += chosen.len() as u64;
            for (expert, bytes) in guess.experts {
                let right = chosen.contains(&expert);
                account.foretold += 1;
                account.right += u64::from(right);
                account.read_bytes += bytes;
                account.unused_bytes += if right { 0 } else { bytes };
            }
        }
    }

    /// The figures, by foreteller.
    pub fn finish(mut self) -> Vec<GuessUse> {
        self.settle();
        let figures = |(by, account): (Foreteller, Account)| GuessUse {
            by: by.word(),
            foretold: account.foretold,
            precision: account.right as f64 / account.foretold as f64,
            recall: account.right as f64 / account.chosen as f64,
            read_bytes: account.read_bytes,
            unused_bytes: account.unused_bytes,
        };
        self.accounts.into_iter().map(figures).collect()
    }
}

/// How good one foreteller's guesses were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuessUse {
    /// Who: see [`Foreteller::word`].
    pub by: &'static str,
    /// Experts foretold of routers that then chose.
    pub foretold: u64,
    /// Share of them that were chosen.
    pub precision: f64,
    /// Share of the experts which these routers chose that was foretold.
    pub recall: f64,
    /// Bytes asked for of foretold experts before the choice.
    pub read_bytes: u64,
    /// Those of them whose expert was not chosen.
    pub unused_bytes: u64,
}
