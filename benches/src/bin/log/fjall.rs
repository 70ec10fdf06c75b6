//! fjall: all waiting decisions are one batch, whose commit is followed by a sync (`PersistMode::SyncAll`). Its journal is
//! synced; its tables are built in the background.

use std::path::Path;

use cloacina_benches::load::{Decision, Done};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::store::{CommitBatch, Grouped, Outcome, Store, events, key, value};

struct Fjall {
    keyspace: Keyspace,
    grouped: Grouped,
    database: Database,
}

struct Writer {
    database: Database,
    keyspace: Keyspace,
}

pub fn open(directory: &Path, done: Done) -> Outcome<Box<dyn Store>> {
    // The cache is as large as that of our log.
    let database = Database::builder(directory.join("events")).cache_size(64 << 20).open()?;
    let keyspace = database.keyspace("events", KeyspaceCreateOptions::default)?;
    let writer = Writer { database: database.clone(), keyspace: keyspace.clone() };
    Ok(Box::new(Fjall { keyspace, grouped: Grouped::new(writer, done)?, database }))
}

impl CommitBatch for Writer {
    fn commit(&mut self, decisions: &[Decision]) -> Outcome {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for decision in decisions {
            batch.insert(&self.keyspace, &key(decision)[..], value(decision));
        }
        Ok(batch.commit()?)
    }
}

impl Store for Fjall {
    fn append(&self, decisions: Vec<Decision>) {
        self.grouped.append(decisions);
    }

    fn scan(&self) -> Outcome<u64> {
        let mut count = 0;
        for entry in self.keyspace.iter() {
            count += events(&entry.value()?)?;
        }
        Ok(count)
    }

    fn close(self: Box<Self>) -> Outcome {
        let Self { keyspace, grouped, database } = *self;
        grouped.close()?;
        database.persist(PersistMode::SyncAll)?;
        drop(keyspace);
        drop(database);
        Ok(())
    }
}
