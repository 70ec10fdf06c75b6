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

/// How many names are known at most.
const KNOWN: usize = 1024;
/// Longer ones are made each time: what is known is to stay small.
const LONGEST: usize = 128;

/// The names of tasks and keys that came last, for [`decode_event_among`](super::decode_event_among).
#[derive(Debug)]
pub struct Names {
    /// Each at the place that its hash gives; a new one takes the place of an older one. Empty: none is kept.
    known: Vec<Option<Arc<str>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self { known: vec![None; KNOWN] }
    }
}

impl Names {
    /// For one event alone: keeps no names.
    pub(super) fn none() -> Self {
        Self { known: Vec::new() }
    }

    fn of(&mut self, text: &str) -> Arc<str> {
        if text.len() > LONGEST || self.known.is_empty() {
            return text.into();
        }
        // The same hash in every process, and a weak one: names that are made to share a place are made again, and that is all.
        #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let place = &mut self.known[FxBuildHasher.hash_one(text) as usize % KNOWN];
        match place {
            Some(name) if **name == *text => name.clone(),
            _ => place.insert(text.into()).clone(),
        }
    }
}

/// A value whose names are taken from [`Names`].
pub(super) struct Among<T>(pub(super) T);

macro_rules! among {
    ($type:ty, $decoder:ident => $value:expr) => {
        impl<'de, 'n> BorrowDecode<'de, &'n mut Names> for Among<$type> {
            fn borrow_decode<D: BorrowDecoder<'de, Context = &'n mut Names>>(
                $decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                Ok(Self($value))
            }
        }
    };
}

fn take<'de, 'n, T, D: BorrowDecoder<'de, Context = &'n mut Names>>(decoder: &mut D) -> Result<T, DecodeError>
where
    Among<T>: BorrowDecode<'de, &'n mut Names>,
{
    Among::borrow_decode(decoder).map(|Among(value)| value)
}

fn take_all<'de, 'n, T, D: BorrowDecoder<'de, Context = &'n mut Names>>(decoder: &mut D) -> Result<Vec<T>, DecodeError>
where
    Among<T>: BorrowDecode<'de, &'n mut Names>,
{
    let all: Vec<Among<T>> = BorrowDecode::borrow_decode(decoder)?;
    Ok(all.into_iter().map(|Among(value)| value).collect())
}

among!(Arc<str>, decoder => {
    let text = <&str>::borrow_decode(decoder)?;
    decoder.context().of(text)
});
among!(Json, decoder => Json::from_serializer(<&str>::borrow_decode(decoder)?));
among!(Origin, decoder => match u32::decode(decoder)? {
    0 => Origin::Input,
    1 => Origin::Task { task: take(decoder)?, attempt: u32::decode(decoder)? },
    found => {
        let allowed = &AllowedEnumVariants::Range { min: 0, max: 1 };
        return Err(DecodeError::UnexpectedVariant { type_name: "Origin", allowed, found });
    }
});
among!(Definition, decoder => Definition { workflow: take(decoder)?, tasks: take_all(decoder)? });
among!(TaskDefinition, decoder => TaskDefinition {
    id: take(decoder)?,
    dependencies: take_all(decoder)?,
    rule: BorrowDecode::borrow_decode(decoder)?,
    retry: BorrowDecode::borrow_decode(decoder)?,
    timeout: Decode::decode(decoder)?,
    code: Decode::decode(decoder)?,
    source: take(decoder)?,
});
among!(Read, decoder => Read { key: take(decoder)?, seen: Decode::decode(decoder)? });
among!(Reads, decoder => Reads { keys: take_all(decoder)?, all: bool::decode(decoder)? });
among!(ContextWritten, decoder => ContextWritten { origin: take(decoder)?, key: take(decoder)?, value: take(decoder)? });
among!(ContextRemoved, decoder => ContextRemoved { origin: take(decoder)?, key: take(decoder)? });
among!(TaskStarted, decoder => TaskStarted {
    task: take(decoder)?,
    attempt: u32::decode(decoder)?,
    worker: u32::decode(decoder)?,
});
among!(TaskCompleted, decoder => TaskCompleted {
    task: take(decoder)?,
    attempt: u32::decode(decoder)?,
    reads: take(decoder)?,
});
