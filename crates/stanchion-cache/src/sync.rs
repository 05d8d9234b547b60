//! std's or loom's primitives, chosen in one place. Only the flights' protocol is
//! modelled with them.

#[cfg(stanchion_loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(stanchion_loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
