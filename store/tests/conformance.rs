//! Runs the conformance suite on both backends.

use cloacina_store::log::EventLog;
use cloacina_store::{MemoryDisk, MemoryLog, Options, open};

use crate::suite;

struct Memory(MemoryDisk);

impl suite::Place for Memory {
    fn new() -> Self {
        Self(MemoryDisk::new())
    }

    fn open(&self) -> Box<dyn EventLog> {
        Box::new(MemoryLog::open(&self.0).unwrap())
    }
}

struct Directory(tempfile::TempDir);

impl suite::Place for Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Box<dyn EventLog> {
        Box::new(open(&self.0.path().join("log"), &Options::default()).unwrap())
    }
}

suite::conformance!(in_memory, Memory);
suite::conformance!(in_a_directory, Directory);
