//! A log with its index in sled, on a failing disk.

use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use super::Core;
use super::open::{WriterOptions, create, load, load_head, open_for_writing};
use super::writer::{Job, Writer};
use crate::disk::Disk;
use crate::disk::memory::MemoryDisk;
use crate::index::Store;
use crate::log::{AppendError, Appended, Batch, Durability, Frame, Listing, LogReader};
use crate::log_event::Opened;
use crate::record::{StreamId, StreamKind, Timestamp};
use crate::sled_log::new_id;

const STREAM: StreamId = StreamId::from_bytes([1; 16]);

fn open_log(disk: &MemoryDisk, index: &Path) -> (Arc<Core>, Writer) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let head = load_head(&*disk).unwrap().map_or_else(|| create(&disk, new_id()), Ok).unwrap();
    let store = Store::open(index, head.log, 1024 * 1024).unwrap();
    let found = load(&disk, head, Some(store), false).unwrap();
    let writer_options = WriterOptions {
        location: "here".to_owned(),
        durability: Durability::Sync,
        opened: Opened::new("here".to_owned(), 0, Durability::Sync),
        now: |last| last,
        max_segment: 1024 * 1024,
    };
    open_for_writing(&disk, found, writer_options).unwrap()
}

fn append(writer: &mut Writer, expected_seq: u64, body: &[u8]) -> Result<Appended, AppendError> {
    let (sender, told) = mpsc::channel();
    let sender = Mutex::new(sender);
    let frame = Frame {
        stream: STREAM,
        kind: StreamKind::Execution,
        expected_seq,
        time: Timestamp(1),
        bodies: vec![body.to_vec()],
        listing: Listing::Keep,
    };
    let batch = Batch { definitions: Vec::new(), frames: vec![frame] };
    let tell = Box::new(move |result| sender.lock().unwrap().send(result).unwrap());
    writer.commit(vec![Job::new(batch, tell)]).into_iter().for_each(|outcome| outcome.acknowledge());
    told.recv().unwrap()
}

/// The disk became full while an engine ran. The thread that flushes the index to sled failed first, and sled returned
/// that error to the writer when it looked up the end of a stream. The writer rejected only that batch as invalid,
/// without saying that the log had stopped, and the next batch got a different error.
#[test]
fn a_disk_that_fails_when_the_end_of_a_stream_is_looked_up_stops_the_log() {
    let (disk, ground) = (MemoryDisk::new(), tempfile::tempdir().unwrap());
    let index = ground.path().join("index");
    let (_, mut writer) = open_log(&disk, &index);
    append(&mut writer, 0, b"a").unwrap();
    writer.close(Timestamp(1), || 0).unwrap();
    drop(writer);
    let (core, mut writer) = open_log(&disk, &index);
    assert!(!core.index.is_in_memory(STREAM), "it is only in sled");
    let acknowledged = core.tail(0, usize::MAX).unwrap();
    disk.fail_read(1, "file too large");
    let stopped = append(&mut writer, 1, b"b").unwrap_err();
    let told = stopped.to_string();
    let expected = "the log stopped: cannot read the end of its stream: cannot read the log: segment 1 at byte";
    assert!(told.starts_with(expected), "{told}");
    assert!(
        told.ends_with(": file too large; no pending append was acknowledged. Fix the cause and reopen the log"),
        "{told}"
    );
    disk.mend();
    assert_eq!(append(&mut writer, 1, b"b"), Err(stopped.clone()), "it stays stopped");
    assert_eq!(writer.close(Timestamp(1), || 0), Err(stopped));
    drop((core, writer));
    let (core, mut writer) = open_log(&disk.after_power_cut(), &index);
    assert_eq!(core.tail(0, usize::MAX).unwrap()[..acknowledged.len()], acknowledged);
    append(&mut writer, 1, b"b").unwrap();
    assert_eq!(super::verify::verify(&core).findings, []);
}

/// If this process did not write the last frame of a stream, it is verified. If it is damaged, the batch is rejected;
/// others succeed.
#[test]
fn a_stream_whose_last_frame_is_damaged_takes_nothing_more() {
    let (disk, ground) = (MemoryDisk::new(), tempfile::tempdir().unwrap());
    let index = ground.path().join("index");
    let (core, mut writer) = open_log(&disk, &index);
    append(&mut writer, 0, b"a").unwrap();
    let place = core.index.frames(STREAM, 0, 1).unwrap()[0].span.place;
    writer.close(Timestamp(1), || 0).unwrap();
    drop((core, writer));
    let (core, mut writer) = open_log(&disk, &index);
    let name = crate::segments::name_of(place.segment);
    let mut content = disk.content(&name).unwrap();
    content[place.offset as usize + crate::layout::frame::HEADER + 5] ^= 1;
    disk.damage(&name, Some(&content));
    let refused = append(&mut writer, 1, b"b").unwrap_err();
    assert!(matches!(&refused, AppendError::Invalid(why) if why.contains("is damaged")), "{refused}");
    let other = Writer::record(&mut writer, &crate::log_event::LogEvent::Closed, Timestamp(2));
    assert_eq!(other, Ok(()), "the log goes on");
    assert_eq!(core.tip().position, 5);
}
