//! The caches.

mod foyer;
mod loops;
mod lru;
mod moka;
mod quick_cache;
mod stanchion;

pub use loops::Subject;
use loops::weighed;

use std::any::Any;

use super::{Case, Contestant, Sampled, Store, Suite, Tail};
use crate::Run;

pub(super) static SUITE: Suite = Suite { name: "cache", cases: &CASES, tails: &TAILS, stores: &STORES };

/// What makes a cache for so many entries.
pub type Maker = fn(usize) -> Box<dyn Subject>;

/// Those whose hit ratios are told, ours first, by name.
pub static REPLAYED: [(&str, Maker); 5] = [
    ("stanchion", |capacity| Box::new(stanchion::seeded(capacity))),
    ("moka", |capacity| Box::new(moka::plain(capacity))),
    ("quick_cache", |capacity| Box::new(quick_cache::plain(capacity))),
    ("foyer-s3fifo", |capacity| Box::new(foyer::s3_fifo(capacity))),
    ("foyer-lfu", |capacity| Box::new(foyer::lfu(capacity))),
];

/// Numbers by numbers.
///
/// Hit: 1,000 keys that are there, in no order. Mixed: get, and insert if it isn't there, of 100,000 keys by
/// Zipf's law in a cache for 10,000. Insert: new keys into a full cache for 10,000.
static CASES: [Case; 6] = [
    Case {
        name: "cache/hit",
        ours: ours(|| loops::hit(stanchion::plain)),
        peer: quick_cache(|| loops::hit(quick_cache::plain)),
        others: &[
            moka(|| loops::hit(moka::plain)),
            Contestant { name: "moka-foldhash", start: || loops::hit(moka::with_foldhash) },
            mini_moka(|| loops::hit(moka::mini)),
            foyer(|| loops::hit(foyer::s3_fifo)),
            lru(|| loops::hit(lru::behind_mutex)),
        ],
    },
    Case {
        name: "cache/hit-ttl",
        ours: ours(|| loops::hit(stanchion::with_ttl)),
        peer: quick_cache(|| loops::hit(quick_cache::plain)),
        others: &[moka(|| loops::hit(moka::with_ttl)), mini_moka(|| loops::hit(moka::mini_with_ttl))],
    },
    Case {
        name: "cache/hit-two-threads",
        ours: ours(|| loops::hit_by_two(stanchion::plain)),
        peer: quick_cache(|| loops::hit_by_two(quick_cache::plain)),
        others: &[
            moka(|| loops::hit_by_two(moka::plain)),
            foyer(|| loops::hit_by_two(foyer::s3_fifo)),
            lru(|| loops::hit_by_two(lru::behind_mutex)),
        ],
    },
    Case {
        name: "cache/mixed-zipf",
        ours: ours(|| loops::mixed(stanchion::plain)),
        peer: quick_cache(|| loops::mixed(quick_cache::plain)),
        others: &[
            moka(|| loops::mixed(moka::plain)),
            mini_moka(|| loops::mixed(moka::mini)),
            foyer(|| loops::mixed(foyer::s3_fifo)),
            lru(|| loops::mixed(lru::behind_mutex)),
        ],
    },
    Case {
        name: "cache/insert",
        ours: ours(|| loops::insert(stanchion::plain)),
        peer: quick_cache(|| loops::insert(quick_cache::plain)),
        others: &[
            moka(|| loops::insert(moka::plain)),
            mini_moka(|| loops::insert(moka::mini)),
            foyer(|| loops::insert(foyer::s3_fifo)),
            lru(|| loops::insert(lru::behind_mutex)),
        ],
    },
    Case {
        name: "cache/get-or-load-hit",
        ours: ours(stanchion::get_or_load_hit),
        peer: Contestant { name: "get", start: stanchion::polled_get_hit },
        others: &[quick_cache(quick_cache::get_or_insert_hit), moka(moka::get_with_hit)],
    },
];

/// Inserts of new keys into a full cache for 200,000.
static TAILS: [Tail; 1] = [Tail {
    name: "cache/insert",
    ours: || loops::insert_sampled(stanchion::plain),
    peers: &[
        Sampled { name: "quick_cache", start: || loops::insert_sampled(quick_cache::plain) },
        Sampled { name: "moka", start: || loops::insert_sampled(moka::plain) },
        Sampled { name: "foyer-memory", start: || loops::insert_sampled(foyer::s3_fifo) },
        Sampled { name: "lru", start: || loops::insert_sampled(lru::behind_mutex) },
    ],
}];

const fn ours(start: fn() -> Run) -> Contestant {
    Contestant { name: "stanchion", start }
}

const fn quick_cache(start: fn() -> Run) -> Contestant {
    Contestant { name: "quick_cache", start }
}

const fn moka(start: fn() -> Run) -> Contestant {
    Contestant { name: "moka", start }
}

const fn mini_moka(start: fn() -> Run) -> Contestant {
    Contestant { name: "mini-moka", start }
}

const fn foyer(start: fn() -> Run) -> Contestant {
    Contestant { name: "foyer-memory", start }
}

const fn lru(start: fn() -> Run) -> Contestant {
    Contestant { name: "lru", start }
}

const MANY: usize = 100_000;
const MILLION: usize = 1_000_000;

/// Numbers by numbers, in caches that are full and have evicted as many as they hold.
static STORES: [Store; 7] = [
    Store {
        name: "cache/entry",
        keys: || MANY,
        ours: || weighed(stanchion::plain, MANY),
        peer: "quick_cache",
        peers: || weighed(quick_cache::plain, MANY),
    },
    with_ttl("quick_cache", || weighed(quick_cache::plain, MANY)),
    with_ttl("moka", || weighed(moka::with_ttl, MANY)),
    with_ttl("mini-moka", || weighed(moka::mini_with_ttl, MANY)),
    with_ttl("foyer-memory", || weighed(foyer::s3_fifo, MANY)),
    with_ttl("lru", || weighed(lru::behind_mutex, MANY)),
    Store {
        name: "cache/entry-ttl",
        keys: || MILLION,
        ours: || weighed(stanchion::with_ttl, MILLION),
        peer: "quick_cache",
        peers: || weighed(quick_cache::plain, MILLION),
    },
];

const fn with_ttl(peer: &'static str, peers: fn() -> Box<dyn Any>) -> Store {
    Store { name: "cache/entry-ttl", keys: || MANY, ours: || weighed(stanchion::with_ttl, MANY), peer, peers }
}
