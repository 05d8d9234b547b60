//! Who asks when: decided in full before the first request is sent.

use std::fmt;
use std::time::Duration;

use crate::seeded::Seeded;

/// How many tenants share the quiet traffic.
pub(crate) const QUIET_TENANTS: usize = 200;
/// What the quiet tenants ask for together: well within what the upstream can do.
pub(crate) const QUIET_PER_SECOND: f64 = 100.0;
/// What the noisy tenant asks for: about twice what the upstream can do for all.
pub(crate) const NOISY_PER_SECOND: f64 = 600.0;

/// What the readers ask for together: little enough that it makes no difference to the others.
pub(crate) const READERS_PER_SECOND: f64 = 60.0;
/// How many share that.
pub(crate) const READERS: usize = 60;
/// And how many products they look at.
pub(crate) const PRODUCTS: usize = 200;
/// How much more popular the first is than the second, and so on (Zipf's exponent):
/// so much that the hottest has three requests of five.
const SKEW: f64 = 2.0;

/// Whoever sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenant {
    /// One of many that keep to their share.
    Quiet(usize),
    /// The one that doesn't.
    Noisy,
    /// One of many who look at what is everybody's.
    Reader(usize),
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet(number) => write!(f, "quiet-{number}"),
            Self::Noisy => f.write_str("noisy"),
            Self::Reader(number) => write!(f, "reader-{number}"),
        }
    }
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The tenant's own. Each asks for the same again and again, as those do who show a list.
    Orders,
    /// The same for everybody.
    Product(usize),
}

/// As a path.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orders => f.write_str("/orders"),
            Self::Product(number) => write!(f, "{PRODUCT}{number}"),
        }
    }
}

/// What a product's path begins with.
pub(crate) const PRODUCT: &str = "/products/";
pub(crate) const HOTTEST: Wanted = Wanted::Product(0);

/// A request that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Counted from the start.
    pub(crate) due: Duration,
    pub(crate) tenant: Tenant,
    pub(crate) wanted: Wanted,
}

/// Which tenants send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    Everybody,
    QuietAlone,
}

/// The requests of `length`, in the order in which they are due. The arrivals
/// are independent of each other (a Poisson process), and the quiet ones are
/// the same whether the noisy tenant is there or not.
pub(crate) fn schedule(seed: u64, length: Duration, crowd: Crowd) -> Vec<Arrival> {
    let mut quiet = by_popularity(Seeded::new(seed, 0), QUIET_TENANTS, 1.0);
    let quiet = times(Seeded::new(seed, 1), QUIET_PER_SECOND, length).map(|due| Arrival {
        due,
        tenant: Tenant::Quiet(quiet()),
        wanted: Wanted::Orders,
    });
    let mut arrivals: Vec<Arrival> = quiet.collect();
    if crowd == Crowd::Everybody {
        arrivals.extend(times(Seeded::new(seed, 2), NOISY_PER_SECOND, length).map(|due| Arrival {
            due,
            tenant: Tenant::Noisy,
            wanted: Wanted::Orders,
        }));
        let mut product = by_popularity(Seeded::new(seed, 4), PRODUCTS, SKEW);
        // In turn: it doesn't matter who looks at what.
        let readers = (0..READERS).cycle().zip(times(Seeded::new(seed, 5), READERS_PER_SECOND, length));
        arrivals.extend(readers.map(|(reader, due)| {
            let tenant = Tenant::Reader(reader);
            Arrival { due, tenant, wanted: Wanted::Product(product()) }
        }));
        arrivals.sort_by_key(|arrival| arrival.due);
    }
    arrivals
}

fn times(mut random: Seeded, per_second: f64, length: Duration) -> impl Iterator<Item = Duration> {
    let mut now = Duration::ZERO;
    std::iter::from_fn(move || {
        now += random.until_next(per_second);
        (now < length).then_some(now)
    })
}

/// Chooses one of so many again and again, by Zipf's law: with exponent 1, the
/// first twice as often as the second.
fn by_popularity(mut chance: Seeded, number: usize, exponent: f64) -> impl FnMut() -> usize {
    let weight = |one: usize| ((one + 1) as f64).powf(-exponent);
    let total: f64 = (0..number).map(weight).sum();
    // For each the share that is its own or a more popular one's.
    let up_to = (0..number - 1).scan(0.0, |sum, one| {
        *sum += weight(one) / total;
        Some(*sum)
    });
    // Rounding must not leave a number that is nobody's.
    let up_to: Vec<f64> = up_to.chain([1.0]).collect();
    move || {
        let chosen = chance.unit();
        up_to.partition_point(|&up_to| up_to <= chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(20);

    fn quiet(arrivals: &[Arrival]) -> Vec<Arrival> {
        let quiet = arrivals.iter().filter(|arrival| matches!(arrival.tenant, Tenant::Quiet(_)));
        quiet.copied().collect()
    }

    #[test]
    fn a_seed_always_plays_the_same() {
        let played = schedule(5, LENGTH, Crowd::Everybody);
        assert_eq!(played, schedule(5, LENGTH, Crowd::Everybody));
        assert_ne!(played, schedule(6, LENGTH, Crowd::Everybody));
        assert!(played.is_sorted_by_key(|arrival| arrival.due));
        assert!(played.last().unwrap().due < LENGTH);
    }

    #[test]
    fn the_quiet_tenants_ask_alike_whether_alone_or_not() {
        let alone = schedule(5, LENGTH, Crowd::QuietAlone);
        assert_eq!(alone, quiet(&schedule(5, LENGTH, Crowd::Everybody)));
        assert_eq!(alone, quiet(&alone));
    }

    #[test]
    fn the_rates_are_those_that_the_constants_say() {
        let everybody = schedule(5, LENGTH, Crowd::Everybody);
        let of = |is: fn(Tenant) -> bool| everybody.iter().filter(|arrival| is(arrival.tenant)).count() as f64;
        let quiet = of(|tenant| matches!(tenant, Tenant::Quiet(_)));
        let noisy = of(|tenant| tenant == Tenant::Noisy);
        let readers = of(|tenant| matches!(tenant, Tenant::Reader(_)));
        // Standard deviations of 45, 110 and 35; this allows five.
        assert!((quiet - 2_000.0).abs() < 224.0, "{quiet}");
        assert!((noisy - 12_000.0).abs() < 548.0, "{noisy}");
        assert!((readers - 1_200.0).abs() < 174.0, "{readers}");
    }

    #[test]
    fn popularity_follows_zipf() {
        let quiet = schedule(5, LENGTH * 10, Crowd::QuietAlone);
        let of = |number| quiet.iter().filter(|a| a.tenant == Tenant::Quiet(number)).count() as f64;
        // The first has 1/5.88 of 20,000, which is 3,403, the fourth a quarter of that; the deviations are 58 and 29.
        assert!((of(0) - 3_403.0).abs() < 290.0, "{}", of(0));
        assert!((of(3) - 851.0).abs() < 146.0, "{}", of(3));
        assert!(
            quiet.iter().all(|a| matches!(a.tenant, Tenant::Quiet(0..QUIET_TENANTS)) && a.wanted == Wanted::Orders)
        );
    }

    #[test]
    fn readers_want_products_and_the_hottest_three_times_in_five() {
        let everybody = schedule(5, LENGTH * 10, Crowd::Everybody);
        let readers: Vec<Arrival> =
            everybody.into_iter().filter(|arrival| matches!(arrival.tenant, Tenant::Reader(0..READERS))).collect();
        let of = |number| readers.iter().filter(|arrival| arrival.wanted == Wanted::Product(number)).count() as f64;
        // 1/1.64 of 12,000, which is 7,317, and a sixteenth of that; the deviations are 54 and 21.
        assert!((of(0) - 7_317.0).abs() < 270.0, "{}", of(0));
        assert!((of(3) - 457.0).abs() < 105.0, "{}", of(3));
        assert!(readers.iter().all(|arrival| matches!(arrival.wanted, Wanted::Product(0..PRODUCTS))));
    }
}
