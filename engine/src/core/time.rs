//! Time as data. The core has no clock: callers pass the current time.

use bincode::{Decode, Encode};

/// Microseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Timestamp(pub i64);

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Millis(pub u64);

impl Timestamp {
    /// Returns the time `span` later, saturating.
    #[must_use]
    pub fn after(self, span: Millis) -> Self {
        let micros = i64::try_from(span.0).unwrap_or(i64::MAX).saturating_mul(1_000);
        Self(self.0.saturating_add(micros))
    }

    /// Returns the time `micros` microseconds earlier, saturating.
    #[must_use]
    pub fn before(self, micros: u64) -> Self {
        Self(self.0.saturating_sub(i64::try_from(micros).unwrap_or(i64::MAX)))
    }

    /// Returns the microseconds from `earlier` to `self`; 0 if `self` is before `earlier`.
    #[must_use]
    pub fn micros_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}
