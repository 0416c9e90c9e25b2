//! Eras: when what workers may hold is set free, without a count or a lock on their side.
//!
//! A [`Published`] value has every store look into every thread's reservations: too much for tables that change a million
//! times a second, and threads meet there. Such tables are of bare atomic pointers instead. Who follows one holds an
//! [`Era`], which is one reservation for all tables of a plane. What was taken out of a table is [`Unlinked`]: the reaper
//! collects such, ends the era that they were in, and sets them free when nobody is left in that era or one before it.

use std::mem::ManuallyDrop;

use crate::sync::{Arc, Loaded, Published};

/// The eras of a plane.
#[derive(Debug)]
pub(crate) struct Eras(Published<()>);

/// As long as it is held, nothing is set free that a table led to when it was taken, or later.
#[derive(Debug)]
pub(crate) struct Era(#[expect(dead_code, reason = "it is there to be held")] Loaded<()>);

/// An era that nobody can enter any more.
#[derive(Debug)]
pub(crate) struct Past(Arc<()>);

/// Proof that an era is over, and that all before it are.
#[derive(Debug)]
pub(crate) struct Over(());

/// What a table led to before. It is set free by [`Unlinked::free`], at the end of its era, and by nothing else: one that is
/// dropped stays in memory.
#[derive(Debug)]
#[must_use = "it belongs to the reaper"]
pub(crate) struct Unlinked<T>(ManuallyDrop<Arc<T>>);

impl Eras {
    pub(crate) fn new() -> Arc<Eras> {
        Arc::new(Eras(Published::new(())))
    }

    /// Enters the era of this moment.
    #[inline]
    pub(crate) fn enter(&self) -> Era {
        Era(self.0.load())
    }

    /// Begins another era. Only by the reaper, which sees to it that eras are [`Past::over`] one after the other.
    pub(crate) fn end(&self) -> Past {
        Past(self.0.swap(Arc::new(())))
    }
}

impl Past {
    /// Whether everybody has left it. Asked only when the one before it is over.
    pub(crate) fn over(&mut self) -> Option<Over> {
        Arc::get_mut(&mut self.0).map(|()| Over(()))
    }
}

impl<T> Unlinked<T> {
    /// By the table that led to it until now.
    pub(super) fn new(value: Arc<T>) -> Unlinked<T> {
        Unlinked(ManuallyDrop::new(value))
    }

    /// Sets it free. The era of `over` was ended after this was unlinked.
    pub(crate) fn free(self, _: &Over) {
        drop(ManuallyDrop::into_inner(self.0));
    }
}
