//! How far the streams of a damaged log went, as far as the rest of it tells.
//!
//! A stream that has lost its end looks like one that never had it. But commit entries name every frame. And where an entry
//! is lost, too, positions are missing in the log, which any stream may have had that had not been closed before.

use std::collections::HashMap;

use crate::backend::Backend;
use crate::core::Core;
use crate::core::recover::saved_head;
use crate::record::{Record, StreamId};

/// What is known of the ends of streams.
#[derive(Default)]
pub(crate) struct Tails {
    /// The `seq` after the last frame that a commit entry names, of each stream.
    named: HashMap<StreamId, u64>,
    /// Positions that are accounted for, from one up to below another, in no order.
    known: Vec<(u64, u64)>,
    /// Where the log ended, as far as that is known.
    end: u64,
}

impl Tails {
    /// What the commit entries and the head file say, wherever the log is read from.
    pub(crate) fn of<B: Backend>(sources: &[Core<B>]) -> Self {
        let mut tails = Self::default();
        for source in sources {
            let saved = saved_head(&source.backend).map_or(0, |head| head.position);
            tails.end = tails.end.max(source.tip().position).max(saved);
            source.each_group(|position, entry| {
                tails.known.push((position, position.saturating_add(entry.records())));
                for place in &entry.frames {
                    let next = place.first_seq.saturating_add(u64::from(place.count));
                    let named = tails.named.entry(place.stream).or_default();
                    *named = next.max(*named);
                }
            });
        }
        tails
    }

    /// How many records a stream had at the least.
    pub(crate) fn named(&self, stream: StreamId) -> u64 {
        self.named.get(&stream).copied().unwrap_or_default()
    }

    /// Accounts for the positions of records that are there.
    pub(crate) fn account_for(&mut self, records: &[Record]) {
        for record in records {
            let after = record.position.saturating_add(1);
            match self.known.last_mut() {
                Some((_, end)) if *end == record.position => *end = after,
                _ => self.known.push((record.position, after)),
            }
        }
    }

    /// The last position that is not accounted for.
    pub(crate) fn last_missing(mut self) -> Option<u64> {
        self.known.sort_unstable_by_key(|(_, end)| std::cmp::Reverse(*end));
        let mut from = self.end;
        for (start, end) in self.known {
            if end < from {
                break;
            }
            from = from.min(start);
        }
        from.checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tails(end: u64, known: &[(u64, u64)]) -> Tails {
        Tails { end, known: known.to_vec(), ..Tails::default() }
    }

    #[test]
    fn the_last_missing_position_is_the_one_behind_which_all_are_known() {
        assert_eq!(tails(0, &[]).last_missing(), None);
        assert_eq!(tails(9, &[]).last_missing(), Some(8));
        assert_eq!(tails(9, &[(0, 4), (4, 9)]).last_missing(), None);
        assert_eq!(tails(9, &[(4, 9), (0, 3), (5, 7)]).last_missing(), Some(3));
        assert_eq!(tails(9, &[(0, 3), (4, 8)]).last_missing(), Some(8));
        // One may know more than the head file.
        assert_eq!(tails(9, &[(8, 12), (0, 5), (2, 9)]).last_missing(), None);
    }
}
