//! What the upstream sees of the demand for products.
//!
//! It is counted here, on the other side of a socket, so that it can disagree
//! with what a cache says of itself.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::traffic::HOTTEST;

/// The demand for each product. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand(Arc<Mutex<HashMap<String, Product>>>);

#[derive(Debug, Default)]
struct Product {
    calls: HashSet<String>,
    /// So many attempts of these calls.
    under_way: HashMap<String, u32>,
    /// The most calls that ever were under way.
    at_once: u64,
}

/// The demand so far. Attempts of one call, be it one after the other or one
/// beside the other, are one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Demanded {
    /// Calls for any product.
    pub(crate) calls: u64,
    /// And for the [`HOTTEST`] one.
    pub(crate) hottest: u64,
    /// The most calls for any one product that ever were under way at once.
    pub(crate) at_once: u64,
}

impl Demand {
    /// An attempt of a call comes in. It is under way until what this returns is dropped.
    pub(crate) fn begin(&self, product: &str, call: &str) -> UnderWay {
        let mut products = self.0.lock().expect("nothing panics while it counts");
        let of = products.entry(product.to_owned()).or_default();
        of.calls.insert(call.to_owned());
        *of.under_way.entry(call.to_owned()).or_default() += 1;
        of.at_once = of.at_once.max(of.under_way.len() as u64);
        drop(products);
        UnderWay { demand: self.clone(), product: product.to_owned(), call: call.to_owned() }
    }

    pub(crate) fn so_far(&self) -> Demanded {
        let products = self.0.lock().expect("nothing panics while it counts");
        let calls = |product: &Product| product.calls.len() as u64;
        Demanded {
            calls: products.values().map(calls).sum(),
            hottest: products.get(&HOTTEST.to_string()).map_or(0, calls),
            at_once: products.values().map(|product| product.at_once).max().unwrap_or(0),
        }
    }
}

/// An attempt under way: until it is answered, or until whoever asked hangs up.
#[derive(Debug)]
#[must_use = "it is over when this is dropped"]
pub(crate) struct UnderWay {
    demand: Demand,
    product: String,
    call: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut products = self.demand.0.lock().expect("nothing panics while it counts");
        let Some(of) = products.get_mut(&self.product) else { return };
        let Some(attempts) = of.under_way.get_mut(&self.call) else { return };
        *attempts -= 1;
        if *attempts == 0 {
            of.under_way.remove(&self.call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_of_one_call_are_one_call() {
        let demand = Demand::default();
        let first = demand.begin("/products/0", "a");
        let hedge = demand.begin("/products/0", "a");
        drop(first);
        // The hedge is under way still, so the call is.
        let other = demand.begin("/products/0", "b");
        assert_eq!(demand.so_far(), Demanded { calls: 2, hottest: 2, at_once: 2 });
        drop((hedge, other));
        let _retry = demand.begin("/products/0", "a");
        assert_eq!(demand.so_far(), Demanded { calls: 2, hottest: 2, at_once: 2 });
    }

    #[test]
    fn calls_are_at_once_only_if_they_overlap_and_are_for_the_same() {
        let demand = Demand::default();
        drop(demand.begin("/products/0", "a"));
        drop(demand.begin("/products/0", "b"));
        assert_eq!(demand.so_far(), Demanded { calls: 2, hottest: 2, at_once: 1 });
        let _other = (demand.begin("/products/1", "c"), demand.begin("/products/0", "d"));
        assert_eq!(demand.so_far(), Demanded { calls: 4, hottest: 3, at_once: 1 });
        let _same = (demand.begin("/products/1", "e"), demand.begin("/products/1", "f"));
        assert_eq!(demand.so_far(), Demanded { calls: 6, hottest: 3, at_once: 3 });
    }
}
