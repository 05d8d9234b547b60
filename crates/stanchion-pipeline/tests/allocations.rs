//! The happy path allocates nothing.

use std::hint::black_box;
use std::time::Duration;

use stanchion_limit::{Bulkhead, Limiter};
use stanchion_pipeline::{Call, Hedge, Mode, Pipeline, Retry};

fn allocations(future: impl Future) -> u64 {
    let mut future = std::pin::pin!(future);
    let info = allocation_counter::measure(|| {
        let poll = future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        assert!(black_box(poll).is_ready());
    });
    info.count_total
}

#[test]
fn a_call_that_succeeds_allocates_nothing() {
    let builder = Pipeline::named("x")
        .total_timeout(Duration::from_secs(10))
        .attempt_timeout(Duration::from_secs(2))
        .retry(Retry::exponential())
        .hedge(Hedge::at_percentile(95.0))
        .rate_limit(Limiter::per_second(1_000_000))
        .bulkhead(Bulkhead::new(64));
    for mode in [Mode::Enabled, Mode::Shadow, Mode::Disabled] {
        let pipeline = builder.clone().mode(mode).build().unwrap();
        let call = || pipeline.run(|_| async { Ok::<_, std::io::Error>(black_box(7)) });
        allocations(call());
        assert_eq!(allocations(call()), 0, "{mode:?}");
        let hedged = Call::new().key("tenant").repeatable(true);
        let call = || pipeline.call(hedged).run(|_| async { Ok::<_, std::io::Error>(black_box(7)) });
        assert_eq!(allocations(call()), 0, "{mode:?}, hedged");
    }
}
