//! Decoding what has many names, so that one that came a moment ago is not made again: it is shared, as the engine shares it
//! that wrote it. These are definitions, and the bodies that an execution has most of. The layouts are those that
//! [`crate::core::definition`] and [`crate::core::event`] derive.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use bincode::BorrowDecode;
use bincode::de::{BorrowDecoder, Decode};
use bincode::error::{AllowedEnumVariants, DecodeError};
use rustc_hash::FxBuildHasher;

use super::super::definition::{Definition, TaskDefinition};
use super::super::event::{ContextRemoved, ContextWritten, Origin, Read, Reads, TaskCompleted, TaskStarted};
use super::super::json::Json;

/// How many names are kept at most.
const CAPACITY: usize = 1024;
/// Longer ones are made each time: the table is to stay small.
const MAX_LENGTH: usize = 128;

/// The names of tasks and keys that came last, for [`decode_event_among`](super::decode_event_among).
#[derive(Debug)]
pub struct Names {
    /// Each at the slot that its hash gives; a new one takes the slot of an older one. Empty: none is kept.
    slots: Vec<Option<Arc<str>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self { slots: vec![None; CAPACITY] }
    }
}

impl Names {
    /// For one event alone: keeps no names.
    pub(super) fn disabled() -> Self {
        Self { slots: Vec::new() }
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        if text.len() > MAX_LENGTH || self.slots.is_empty() {
            return text.into();
        }
        // The same hash in every process, and a weak one: names that are made to share a slot are made again, and that is all.
        #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let slot = &mut self.slots[FxBuildHasher.hash_one(text) as usize % CAPACITY];
        match slot {
            Some(name) if **name == *text => name.clone(),
            _ => slot.insert(text.into()).clone(),
        }
    }
}

/// A value whose names are taken from [`Names`].
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
interned!(ContextWritten, decoder => ContextWritten { origin: field(decoder)?, key: field(decoder)?, value: field(decoder)? });
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
