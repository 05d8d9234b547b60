//! What the report on the rate limiters says.

use super::suite::Prose;

pub(super) const PROSE: Prose = Prose {
    suite: "limit",
    title: "What a rate-limit check costs",
    what: "check",
    cases: "\
Both sides have the same quota.

- **direct-allow**: one limit of 10⁹ a second; no check is refused.
- **direct-refuse**: one limit of 1 an hour, which has been taken; each check is refused.
- **two-threads**: as direct-allow, by two threads at once; the time is that of one check on one of them. Each
  round has a new limiter, since what two cores pay for a cache line depends on its address.
- **keyed-u64**, **keyed-string**: 10⁸ a second and 1,000 at once for each of 100,000 keys, which come by Zipf's law
  with exponent 1. All were seen before; no check is refused. A string is `tenant-` and 16 hexadecimal digits.
- **keyed-u64-mixed**: the same with 1,000 a second. The most frequent keys ask for more than that, so about half of the
  checks are refused, and nobody's branch predictor knows which.
- **floor**: direct-allow again, beside the least that any such limiter must do: one reading of the timestamp
  counter, in nanoseconds, and one compare-and-swap.

governor is used with its default clock and its default keyed store. That store hashes with std's SipHash, ours
with foldhash; `governor-foldhash` is governor with foldhash, which tells what the rest accounts for. governor
keeps the keys themselves, ours their hashes of 64 bits.",
    memory: "\
Bytes that were asked of the allocator and not given back, for a limiter into which all keys were put. Ours takes
them at the start, for `max_keys`, and never more. governor's grows by doubling and keeps every key until it is
told to drop those that are idle.",
};
