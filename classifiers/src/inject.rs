//! Injection points: places where a test can stop a request, or make it fail [IM-7].
//!
//! Compiled in only for tests and with the feature `inject`; elsewhere a point is nothing.

/// Where a request can be stopped. No lock is held at any of them but those named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// A private proto was built, its insertion comes next.
    ProtoBuilt,
    /// A proto was found or inserted; its filter is next.
    ProtoObtained,
    /// A handle was reserved, actions come next.
    HandleReserved,
    /// All is built; the commit comes next.
    BeforeCommit,
    /// The filter is committed, but the request still holds proto and chain.
    Committed,
    /// A proto was unlinked; its destruction comes next.
    Unlinked,
    /// Inside head-change callbacks, under chain 0's lock.
    HeadChange,
    /// In the reaper, before it releases something.
    Reaping,
    /// An attempt failed and is made again.
    Replay,
}

#[cfg(any(test, feature = "inject"))]
mod active {
    use super::Point;
    use crate::error::RequestError;

    /// What a test wants to happen at a point: wait, count, or fail.
    pub type Hook = std::sync::Arc<dyn Fn(Point) -> Result<(), RequestError> + Send + Sync>;

    /// The hook of one plane.
    #[derive(Default)]
    pub(crate) struct Injector(std::sync::RwLock<Option<Hook>>);

    impl Injector {
        /// Every point calls `hook` from now on; a failure counts only where a request can fail.
        pub(crate) fn set(&self, hook: Option<Hook>) {
            *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = hook;
        }

        pub(crate) fn at(&self, point: Point) -> Result<(), RequestError> {
            let hook = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            hook.map_or(Ok(()), |hook| hook(point))
        }
    }

    impl std::fmt::Debug for Injector {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Injector")
        }
    }
}

#[cfg(any(test, feature = "inject"))]
pub use active::Hook;
#[cfg(any(test, feature = "inject"))]
pub(crate) use active::Injector;

#[cfg(not(any(test, feature = "inject")))]
#[derive(Debug, Default)]
pub(crate) struct Injector;

#[cfg(not(any(test, feature = "inject")))]
impl Injector {
    #[expect(clippy::unused_self, reason = "as its double")]
    #[inline]
    pub(crate) fn at(&self, _: Point) -> Result<(), crate::error::RequestError> {
        Ok(())
    }
}
