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

/// Whoever sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenant {
    /// One of many that keep to their share.
    Quiet(usize),
    /// The one that doesn't.
    Noisy,
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet(number) => write!(f, "quiet-{number}"),
            Self::Noisy => f.write_str("noisy"),
        }
    }
}

/// A request that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Counted from the start.
    pub(crate) due: Duration,
    pub(crate) tenant: Tenant,
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
    let popularity = popularity();
    let mut choice = Seeded::new(seed, 0);
    let quiet = times(Seeded::new(seed, 1), QUIET_PER_SECOND, length).map(|due| {
        let chosen = choice.unit();
        let tenant = Tenant::Quiet(popularity.partition_point(|&up_to| up_to <= chosen));
        Arrival { due, tenant }
    });
    let mut arrivals: Vec<Arrival> = quiet.collect();
    if crowd == Crowd::Everybody {
        let tenant = Tenant::Noisy;
        arrivals.extend(times(Seeded::new(seed, 2), NOISY_PER_SECOND, length).map(|due| Arrival { due, tenant }));
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

/// For each quiet tenant the share of requests that are its own or a more
/// popular one's: Zipf's law with exponent 1, so that the first asks twice as
/// often as the second.
fn popularity() -> Vec<f64> {
    let weight = |tenant: usize| 1.0 / (tenant + 1) as f64;
    let total: f64 = (0..QUIET_TENANTS).map(weight).sum();
    let up_to = (0..QUIET_TENANTS - 1).scan(0.0, |sum, tenant| {
        *sum += weight(tenant) / total;
        Some(*sum)
    });
    // Rounding must not leave a number that is nobody's.
    up_to.chain([1.0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(20);

    fn quiet(arrivals: &[Arrival]) -> Vec<Arrival> {
        let quiet = arrivals.iter().filter(|arrival| arrival.tenant != Tenant::Noisy);
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
        let quiet = quiet(&everybody).len() as f64;
        let noisy = everybody.len() as f64 - quiet;
        // Standard deviations of 45 and 110; this allows five.
        assert!((quiet - 2_000.0).abs() < 224.0, "{quiet}");
        assert!((noisy - 12_000.0).abs() < 548.0, "{noisy}");
    }

    #[test]
    fn popularity_follows_zipf() {
        let quiet = schedule(5, LENGTH * 10, Crowd::QuietAlone);
        let of = |number| quiet.iter().filter(|a| a.tenant == Tenant::Quiet(number)).count() as f64;
        // The first has 1/5.88 of 20,000, which is 3,403, the fourth a quarter of that; the deviations are 58 and 29.
        assert!((of(0) - 3_403.0).abs() < 290.0, "{}", of(0));
        assert!((of(3) - 851.0).abs() < 146.0, "{}", of(3));
        assert!(quiet.iter().all(|a| matches!(a.tenant, Tenant::Quiet(0..QUIET_TENANTS))));
    }
}
