//! Who asks the store for a key, and who waits for the answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_core::{Moment, StoreError, StoreErrorKind};

use super::shelf::{Cell, Shelf};

/// The turn that is under way, and those who wait for its end.
#[derive(Default)]
pub(super) struct Queue {
    turn: Option<(u64, Moment)>,
    places: Vec<Place>,
    /// Of the last turn that ended by an error.
    failure: Option<(u64, Failure)>,
}

struct Place {
    number: u64,
    cost: u64,
    waker: Waker,
}

impl Queue {
    /// The turn that is under way, unless it is as old as `stale`.
    pub(super) fn under_way(&self, now: Moment, stale: Duration) -> Option<u64> {
        self.turn.filter(|(_, began)| now - *began < stale).map(|(number, _)| number)
    }

    /// The units for which others wait.
    pub(super) fn waiting(&self) -> u64 {
        self.places.iter().fold(0, |sum, place| place.cost.saturating_add(sum))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.turn.is_some() || !self.places.is_empty()
    }
}

/// A turn that is under way until this is dropped.
pub(super) struct Turn<'a> {
    cell: &'a Cell,
    id: u64,
    number: u64,
    failure: Option<Failure>,
}

impl<'a> Turn<'a> {
    /// Begins a turn, in place of a stale one if there is any.
    pub(super) fn begin(cell: &'a Cell, id: u64, shelf: &mut Shelf, now: Moment) -> Self {
        let number = shelf.number();
        if let Some(entry) = shelf.known(id) {
            // Those who wait for a stale one wait on: this one's end wakes them.
            entry.queue.turn = Some((number, now));
        }
        Self { cell, id, number, failure: None }
    }

    /// Ends it by an error, which is that of all who wait for it.
    pub(super) fn failed(mut self, failure: Failure) {
        self.failure = Some(failure);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut shelf = self.cell.lock();
        let Some(entry) = shelf.known(self.id) else { return };
        if entry.queue.turn.is_none_or(|(number, _)| number != self.number) {
            // It was stale, and another has begun.
            return;
        }
        entry.queue.turn = None;
        entry.queue.failure = self.failure.take().map(|failure| (self.number, failure));
        let places = std::mem::take(&mut entry.queue.places);
        drop(shelf);
        places.into_iter().for_each(|place| place.waker.wake());
    }
}

/// Waits for the end of a turn; brings its error, if it ended by one.
pub(super) struct Waiting<'a> {
    cell: &'a Cell,
    id: u64,
    turn: u64,
    cost: u64,
    place: Option<u64>,
}

impl<'a> Waiting<'a> {
    pub(super) const fn new(cell: &'a Cell, id: u64, turn: u64, cost: u64) -> Self {
        Self { cell, id, turn, cost, place: None }
    }
}

impl Future for Waiting<'_> {
    type Output = Option<Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Failure>> {
        // A waker is the user's: it is cloned and dropped outside of the lock.
        let mut waker = context.waker().clone();
        let mut shelf = self.cell.lock();
        let number = shelf.number();
        let Some(entry) = shelf.known(self.id) else { return Poll::Ready(None) };
        if entry.queue.turn.is_none_or(|(number, _)| number != self.turn) {
            let failure = entry.queue.failure.as_ref();
            return Poll::Ready(failure.filter(|(turn, _)| *turn == self.turn).map(|(_, failure)| failure.clone()));
        }
        if let Some(place) = entry.queue.places.iter_mut().find(|place| Some(place.number) == self.place) {
            std::mem::swap(&mut place.waker, &mut waker);
        } else {
            entry.queue.places.push(Place { number, cost: self.cost, waker });
            self.place = Some(number);
            return Poll::Pending;
        }
        drop(shelf);
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(own) = self.place else { return };
        let left = {
            let mut shelf = self.cell.lock();
            let Some(entry) = shelf.known(self.id) else { return };
            let places = &mut entry.queue.places;
            places.iter().position(|place| place.number == own).map(|place| places.swap_remove(place))
        };
        drop(left);
    }
}

/// What is told of an error to those who waited for another's answer.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    kind: StoreErrorKind,
    message: String,
}

impl Failure {
    pub(super) fn of(error: &StoreError) -> Self {
        Self { kind: error.kind(), message: error.to_string() }
    }

    pub(super) fn error(&self) -> StoreError {
        StoreError::new(self.kind, self.message.clone())
    }
}
