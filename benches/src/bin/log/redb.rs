//! redb: all waiting decisions are one write transaction, with the default durability (`Immediate`: synced at the commit).

use std::path::Path;
use std::sync::Arc;

use cloacina_benches::load::{Decision, Done};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::store::{CommitBatch, Grouped, Outcome, Store, events, key, value};

const EVENTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("events");

struct Redb {
    database: Arc<Database>,
    grouped: Grouped,
}

struct Writer(Arc<Database>);

pub fn open(directory: &Path, done: Done) -> Outcome<Box<dyn Store>> {
    // The cache is as large as that of our log.
    let database = Arc::new(Database::builder().set_cache_size(64 << 20).create(directory.join("events.redb"))?);
    let grouped = Grouped::new(Writer(Arc::clone(&database)), done)?;
    Ok(Box::new(Redb { database, grouped }))
}

impl CommitBatch for Writer {
    fn commit(&mut self, decisions: &[Decision]) -> Outcome {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(EVENTS)?;
            for decision in decisions {
                table.insert(&key(decision)[..], &value(decision)[..])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Store for Redb {
    fn append(&self, decisions: Vec<Decision>) {
        self.grouped.append(decisions);
    }

    fn scan(&self) -> Outcome<u64> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(EVENTS)?;
        let mut count = 0;
        for entry in table.iter()? {
            count += events(entry?.1.value())?;
        }
        Ok(count)
    }

    fn close(self: Box<Self>) -> Outcome {
        let Self { database, grouped } = *self;
        grouped.close()?;
        drop(database);
        Ok(())
    }
}
