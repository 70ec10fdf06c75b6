//! Interns names while decoding: a name that occurred recently is shared instead of allocated again. Used for
//! definitions and for the most frequent events. The layouts are those that [`crate::core::definition`] and
//! [`crate::core::event`] derive.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use bincode::BorrowDecode;
use bincode::de::{BorrowDecoder, Decode};
use bincode::error::{AllowedEnumVariants, DecodeError};
use rustc_hash::FxBuildHasher;

use super::super::definition::{Definition, TaskDefinition};
use super::super::event::{ContextRemoved, ContextWritten, Origin, Read, Reads, TaskCompleted, TaskStarted};
use super::super::json::Json;

/// The maximum number of interned names.
const CAPACITY: usize = 1024;
/// Longer names are not interned, so that the table stays small.
const MAX_LENGTH: usize = 128;

/// Recent names of tasks and keys, for [`decode_event_interned`](super::decode_event_interned).
#[derive(Debug)]
pub struct Names {
    /// Each name is in the slot of its hash, where it replaces an older one. Without slots, nothing is interned.
    slots: Vec<Option<Arc<str>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self { slots: vec![None; CAPACITY] }
    }
}

impl Names {
    /// Creates a table that interns nothing, for a single event.
    pub(super) fn disabled() -> Self {
        Self { slots: Vec::new() }
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        if text.len() > MAX_LENGTH || self.slots.is_empty() {
            return text.into();
        }
        // The hash is weak and the same in every process. Crafted names can collide, but then they are only allocated
        // again.
        #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let slot = &mut self.slots[FxBuildHasher.hash_one(text) as usize % CAPACITY];
        match slot {
            Some(name) if **name == *text => name.clone(),
            _ => slot.insert(text.into()).clone(),
        }
    }
}

/// A value whose names were interned in [`Names`].
pub(super) struct Interned<T>(pub(super) T);

macro_rules! interned {
    ($type:ty, $decoder:ident => $value:expr) => {
        impl<'de, 'n> BorrowDecode<'de, &'n mut Names> for Interned<$type> {
            fn borrow_decode<D: BorrowDecoder<'de, Context = &'n mut Names>>(
                $decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                Ok(Self($value))
            }
        }
    };
}

fn field<'de, 'n, T, D: BorrowDecoder<'de, Context = &'n mut Names>>(decoder: &mut D) -> Result<T, DecodeError>
where
    Interned<T>: BorrowDecode<'de, &'n mut Names>,
{
    Interned::borrow_decode(decoder).map(|Interned(value)| value)
}

fn list<'de, 'n, T, D: BorrowDecoder<'de, Context = &'n mut Names>>(decoder: &mut D) -> Result<Vec<T>, DecodeError>
where
    Interned<T>: BorrowDecode<'de, &'n mut Names>,
{
    let all: Vec<Interned<T>> = BorrowDecode::borrow_decode(decoder)?;
    Ok(all.into_iter().map(|Interned(value)| value).collect())
}

interned!(Arc<str>, decoder => {
    let text = <&str>::borrow_decode(decoder)?;
    decoder.context().intern(text)
});
interned!(Json, decoder => Json::from_serializer(<&str>::borrow_decode(decoder)?));
interned!(Origin, decoder => match u32::decode(decoder)? {
    0 => Origin::Input,
    1 => Origin::Task { task: field(decoder)?, attempt: u32::decode(decoder)? },
    found => {
        let allowed = &AllowedEnumVariants::Range { min: 0, max: 1 };
        return Err(DecodeError::UnexpectedVariant { type_name: "Origin", allowed, found });
    }
});
interned!(Definition, decoder => Definition { workflow: field(decoder)?, tasks: list(decoder)? });
interned!(TaskDefinition, decoder => TaskDefinition {
    id: field(decoder)?,
    dependencies: list(decoder)?,
    rule: BorrowDecode::borrow_decode(decoder)?,
    retry: BorrowDecode::borrow_decode(decoder)?,
    timeout: Decode::decode(decoder)?,
    code: Decode::decode(decoder)?,
    source: field(decoder)?,
});
interned!(Read, decoder => Read { key: field(decoder)?, seen: Decode::decode(decoder)? });
interned!(Reads, decoder => Reads { keys: list(decoder)?, all: bool::decode(decoder)? });
interned!(ContextWritten, decoder => ContextWritten {
    origin: field(decoder)?,
    key: field(decoder)?,
    value: field(decoder)?,
});
interned!(ContextRemoved, decoder => ContextRemoved { origin: field(decoder)?, key: field(decoder)? });
interned!(TaskStarted, decoder => TaskStarted {
    task: field(decoder)?,
    attempt: u32::decode(decoder)?,
    worker: u32::decode(decoder)?,
});
interned!(TaskCompleted, decoder => TaskCompleted {
    task: field(decoder)?,
    attempt: u32::decode(decoder)?,
    reads: field(decoder)?,
});
