//! Shows the past.
