//! The laws hold for the definition, and each flaw breaks the law that is about it.

use super::naive::{Flaw, subject};
use super::*;

async fn sound() -> Subject {
    subject(Flaw::None)
}

mod the_definition {
    use super::sound;
    crate::cache_laws!(sound);
}

macro_rules! broken_by {
    ($($law:ident: $($flaw:ident)*;)*) => {
        $(mod $law {
            use super::*;

            /// Nothing here waits for real: who waits for what is never told waits in virtual time.
            #[tokio::test(start_paused = true)]
            async fn is_broken() {
                for flaw in [$(Flaw::$flaw),*] {
                    let law = tokio::spawn(async move { crate::cache::$law(&subject(flaw)).await });
                    assert!(law.await.is_err_and(|error| error.is_panic()), "{flaw:?} goes unseen");
                }
            }
        })*
    };
}

broken_by! {
    a_value_comes_back_as_it_was_stored: IsFreshForAMilliMore AgesFromTheEndOfTheLoad;
    a_value_is_fresh_and_there_for_exactly_its_times: KeepsForAMilliMore IsFreshForAMilliMore;
    an_age_begins_with_the_load_and_not_with_its_end: AgesFromTheEndOfTheLoad KeepsForAMilliMore;
    a_value_takes_the_place_of_another_with_its_tags_and_times: KeepsOldTags;
    times_without_end_are_times_all_the_same: EndlessIsNothing;
    any_bytes_are_a_key_and_any_text_is_a_tag: TakesKeysByTheirEnd;
    names_do_not_meet: NamesMeet;
    one_holder_at_a_time: LendsTwice LendsForAMilliMore;
    a_lease_ends_exactly_when_its_time_is_over: LendsForAMilliMore;
    only_its_fence_renews_or_releases_a_lease: AsksForNoFence;
    fences_grow: FencesStandStill;
    a_fresh_value_needs_no_lease_and_a_stale_one_comes_with_it: LendsTwice IsFreshForAMilliMore KeepsTheLease;
    a_hundred_at_once_get_one_lease: LendsTwice;
    what_was_loaded_is_stored_once_and_gives_the_lease_back: KeepsTheLease;
    a_late_load_is_not_stored: StoresLateLoads;
    an_insertion_voids_a_load: InsertionSparesLoads;
    an_invalidation_voids_a_load_and_another_may_begin_at_once: InvalidationSparesLoads;
    a_clearing_voids_all_loads: ClearsNothing;
    an_invalidated_tag_voids_the_loads_that_bear_it: TagSparesLoads TagTakesAll TagTakesWhatComesLater;
    what_was_invalidated_is_gone_and_nothing_else: TakesKeysByTheirEnd;
    what_bears_an_invalidated_tag_is_gone_and_nothing_else: TagTakesAll TagTakesWhatIsLoadedOnly TagTakesWhatComesLater;
    what_was_cleared_is_gone_and_what_comes_after_is_there: ClearsNothing;
    others_are_told_and_not_oneself: TellsOneself TellsNoTags TellsStrangers;
    an_ended_subscription_lets_go_of_its_listener: TellsForEver;
    random_histories_are_those_of_the_definition: KeepsForAMilliMore AgesFromTheEndOfTheLoad AsksForNoFence LendsTwice
        StoresLateLoads InsertionSparesLoads InvalidationSparesLoads ClearsNothing TagSparesLoads;
}
