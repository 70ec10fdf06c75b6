//! The rules of the listing: which streams it has, in which order, and what it says of each.

use super::*;

/// Regression: the listing was sorted by id, which users may choose. `prune --keep 2` dropped the newest execution, `latest` was arbitrary.
pub fn the_listing_has_the_newest_first(place: &impl Place) {
    let log = place.open();
    let start = log.head().unwrap().time.0;
    for (number, second) in [(3, 1), (9, 1), (1, 2), (2, 2), (8, 3), (4, 4)] {
        let listing = if number == 2 { closed_label("done") } else { open_label("runs") };
        let time = Timestamp(start + second * 1_000_000);
        let frame = Frame { time, ..frame(stream(number), 0, &[b"a"], listing) };
        log.append(batch(vec![frame])).unwrap();
    }
    // Later appends do not move a stream in the listing.
    log.append(batch(vec![frame(stream(9), 1, &[b"b"], closed_label("done"))])).unwrap();
    written_and_reopened(place, log, |log| {
        let newest_first = [4, 8, 2, 1, 9, 3].map(stream);
        assert_eq!(ids(log, &executions(10)), newest_first);
        assert_eq!(ids(log, &StreamFilter { open_only: true, ..executions(10) }), [4, 8, 1, 3].map(stream));
        let all = StreamFilter { limit: 10, ..StreamFilter::default() };
        assert_eq!(ids(log, &all).last(), Some(&StreamId::LOG));
        let mut paged = Vec::new();
        let mut filter = executions(1);
        while let Some(entry) = log.streams(&filter).unwrap().pop() {
            filter.before = Some(entry.listing_key());
            paged.push(entry.stream);
        }
        assert_eq!(paged, newest_first);
    });
}

pub fn the_listing_takes_filters_and_pages(place: &impl Place) {
    let log = place.open();
    let count = 700u128;
    for number in 1..=count {
        let listing = if number % 3 == 0 { open_label("o") } else { closed_label("c") };
        let kind = if number % 5 == 0 { StreamKind::Schedule } else { StreamKind::Execution };
        let frame = Frame { kind, ..frame(stream(number), 0, &[b"a"], listing) };
        log.append_then(
            batch(vec![frame]),
            Box::new(|result| {
                result.unwrap();
            }),
        );
    }
    log.append(one(stream(count + 1), 0, b"a")).unwrap();
    for (kind, open_only, before, limit) in [
        (None, false, None, 1000),
        (None, false, None, 7),
        (Some(StreamKind::Schedule), false, None, 1000),
        (None, true, None, 1000),
        (Some(StreamKind::Execution), true, Some(500), 50),
        (None, false, Some(301), 300),
        (None, false, Some(1), 10),
        (None, false, None, 0),
    ] {
        let filter = StreamFilter {
            kind,
            open_only,
            before: before.map(|number| log.stream(stream(number)).unwrap().listing_key()),
            limit,
        };
        let is_open = |number: u128| number.is_multiple_of(3) || number == count + 1;
        let is_kind = |number: u128| {
            kind.is_none_or(|kind| (kind == StreamKind::Schedule) == (number.is_multiple_of(5) && number <= count))
        };
        let mut expected: Vec<_> = (1..=count + 1)
            .rev()
            .filter(|number| is_kind(*number) && (!open_only || is_open(*number)))
            .filter(|number| before.is_none_or(|before| *number < before))
            .map(stream)
            .collect();
        if kind.is_none() {
            expected.push(StreamId::LOG);
        }
        expected.truncate(limit);
        assert_eq!(ids(&*log, &filter), expected, "{filter:?}");
    }
}

pub fn the_entry_of_an_open_stream_is_up_to_date(place: &impl Place) {
    let log = place.open();
    log.append(batch(vec![frame(stream(1), 0, &[b"abc"], open_label("first"))])).unwrap();
    let started = log.head().unwrap().time;
    let later = Timestamp(started.0 + 5_000);
    log.append(batch(vec![Frame { time: later, ..frame(stream(1), 1, &[b"de", b"f"], Listing::Keep) }])).unwrap();
    let entry = log.stream(stream(1)).unwrap();
    assert_eq!((entry.records, entry.bytes, entry.open), (3, 6, true));
    assert_eq!((entry.started, entry.last), (started, later));
    assert_eq!(entry.label, b"first");
    assert_eq!(entry.head, log.read(stream(1), 2, 1).unwrap()[0].hash);
    assert_eq!(log.streams(&executions(1)).unwrap(), [entry]);
}

pub fn a_closed_stream_is_not_listed_as_open(place: &impl Place) {
    let log = place.open();
    log.append(batch(vec![frame(stream(1), 0, &[b"a"], open_label("runs"))])).unwrap();
    log.append(batch(vec![frame(stream(1), 1, &[b"b"], closed_label("done"))])).unwrap();
    let open_only = StreamFilter { open_only: true, ..executions(10) };
    assert!(log.streams(&open_only).unwrap().is_empty());
    let entry = log.stream(stream(1)).unwrap();
    assert_eq!((entry.open, entry.records, entry.label.as_slice()), (false, 2, &b"done"[..]));
    assert_eq!(log.streams(&executions(10)).unwrap(), [entry]);
    // A closed stream can be appended to, and its entry follows.
    log.append(one(stream(1), 2, b"c")).unwrap();
    let entry = log.stream(stream(1)).unwrap();
    assert_eq!((entry.open, entry.records, entry.label.as_slice()), (false, 3, &b"done"[..]));
    assert_eq!(log.read(stream(1), 0, 10).unwrap().len(), 3);
    log.append(batch(vec![frame(stream(1), 3, &[b"d"], open_label("again"))])).unwrap();
    assert_eq!(ids(&*log, &open_only), [stream(1)]);
    assert_eq!(log.streams(&executions(10)).unwrap().len(), 1);
}

pub fn a_stream_without_a_label_is_listed_too(place: &impl Place) {
    let log = place.open();
    log.append(one(stream(1), 0, b"a")).unwrap();
    let entry = log.stream(stream(1)).unwrap();
    assert_eq!((entry.open, entry.label.is_empty()), (true, true));
    assert_eq!(ids(&*log, &executions(10)), [stream(1)]);
}
