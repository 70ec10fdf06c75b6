//! The verdicts of verification for each kind of damage.

use std::path::Path;

use crate::common::{Alter, Altered, histories, replay_with};
use cloacina_engine::core::codec::encode_event;
use cloacina_engine::core::event::{Event, TaskStarted};
use cloacina_replay::ids::resolve;
use cloacina_replay::verify::{Verdict, verify};
use cloacina_store::log::{LogReader, OpenError};
use cloacina_store::record::{Body, Hash, Record};
use cloacina_store::seal::{Header, commitment, record_hash};

fn verdicts(alter: Alter) -> Vec<Verdict> {
    let log = histories::all();
    let id = resolve(&*log.0, "51b00003").unwrap();
    verify(&Altered(log, alter), id).unwrap().verdicts
}

fn screen(alter: Alter, arguments: &str) -> String {
    let log = histories::all();
    let open = move |_: &Path| -> Result<Box<dyn LogReader>, OpenError> { Ok(Box::new(Altered(log.clone(), alter))) };
    replay_with(&open, None, arguments).to_string()
}

/// Replaces the body of the record at `seq`, and reseals it and all later records, like a forger with the whole log.
fn forge(mut records: Vec<Record>, seq: u64, body: Option<Vec<u8>>) -> Vec<Record> {
    let mut previous = None;
    for record in &mut records {
        if record.kind != cloacina_store::record::StreamKind::Execution {
            continue;
        }
        if record.seq == seq {
            record.body = match &body {
                Some(bytes) => Body::Present { salt: [7; 16], bytes: bytes.clone().into() },
                None => Body::Erased { commitment: committed(record), length: 0 },
            };
        }
        let header = Header {
            stream: record.stream,
            kind: record.kind,
            seq: record.seq,
            position: record.position,
            time: record.time,
        };
        record.previous = previous.unwrap_or(record.previous);
        record.hash = record_hash(&header, &record.previous, &committed(record));
        previous = Some(record.hash);
    }
    records
}

fn committed(record: &Record) -> Hash {
    match &record.body {
        Body::Present { salt, bytes } => commitment(salt, bytes),
        Body::Erased { commitment, .. } => *commitment,
    }
}

fn flip(mut records: Vec<Record>) -> Vec<Record> {
    for record in records.iter_mut().filter(|record| record.seq == 6) {
        if let Body::Present { bytes, .. } = &mut record.body {
            let mut altered = bytes.to_vec();
            *altered.last_mut().unwrap() ^= 1;
            *bytes = altered.into();
        }
    }
    records
}

fn cut(mut records: Vec<Record>) -> Vec<Record> {
    records.retain(|record| record.seq < 9);
    records
}

fn impossible(records: Vec<Record>) -> Vec<Record> {
    let event = Event::TaskStarted(TaskStarted { task: "report".into(), attempt: 1, worker: 0 });
    forge(records, 8, Some(encode_event(&event)))
}

fn newer(records: Vec<Record>) -> Vec<Record> {
    forge(records, 8, Some(vec![b'E', 1, 9, 4, 0, 0]))
}

fn erased(records: Vec<Record>) -> Vec<Record> {
    forge(records, 3, None)
}

#[test]
fn sound() {
    assert_eq!(verdicts(|records| records), []);
}

#[test]
fn record_differs() {
    let found = verdicts(flip);
    assert!(
        matches!(&found[..], [Verdict::RecordDiffers { seq: 6, what }] if what.starts_with("its hash is ")),
        "{found:?}"
    );
}

#[test]
fn tail_cut() {
    assert_eq!(verdicts(cut), [Verdict::TailCut { head: 17, found: 9 }]);
    insta::assert_snapshot!(screen(cut, "51b00003 verify"));
}

#[test]
fn impossible_event() {
    let found = verdicts(impossible);
    assert!(matches!(&found[..], [Verdict::ImpossibleEvent { seq: 8, .. }]), "{found:?}");
    insta::assert_snapshot!(screen(impossible, "51b00003 verify"));
}

#[test]
fn an_impossible_event_is_shown_all_the_same() {
    insta::assert_snapshot!(screen(impossible, "51b00003"));
}

#[test]
fn newer_format() {
    let found = verdicts(newer);
    assert!(matches!(&found[..], [Verdict::NewerFormat { seq: 8, .. }]), "{found:?}");
    insta::assert_snapshot!(screen(newer, "51b00003"));
}

#[test]
fn body_missing() {
    assert_eq!(verdicts(erased), [Verdict::BodyMissing { seq: 3 }]);
    insta::assert_snapshot!(screen(erased, "51b00003 verify"));
}

#[test]
fn a_missing_body_does_not_hide_the_rest() {
    insta::assert_snapshot!(screen(erased, "51b00003"));
}
