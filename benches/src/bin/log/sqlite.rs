//! SQLite: WAL, synchronous=FULL (each commit is synced). One connection on its own thread writes all waiting decisions as
//! one transaction, with a prepared statement; another one reads. The table is stored in the order of its key.

use std::path::{Path, PathBuf};

use cloacina_benches::load::{Decision, Done};
use rusqlite::{Connection, params};

use crate::store::{CommitBatch, Grouped, Outcome, Store, events, value};

struct Sqlite {
    path: PathBuf,
    grouped: Grouped,
}

struct Writer(Connection);

pub fn open(directory: &Path, done: Done) -> Outcome<Box<dyn Store>> {
    let path = directory.join("events.sqlite");
    let connection = connect(&path)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS events (stream BLOB, seq INTEGER, bodies BLOB, PRIMARY KEY (stream, seq)) WITHOUT ROWID",
    )?;
    Ok(Box::new(Sqlite { path, grouped: Grouped::new(Writer(connection), done)? }))
}

fn connect(path: &Path) -> Outcome<Connection> {
    let connection = Connection::open(path)?;
    // The cache is as large as that of our log.
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536")?;
    Ok(connection)
}

impl CommitBatch for Writer {
    fn commit(&mut self, decisions: &[Decision]) -> Outcome {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3)")?;
            for decision in decisions {
                insert.execute(params![&decision.stream[..], i64::try_from(decision.seq)?, value(decision)])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Store for Sqlite {
    fn append(&self, decisions: Vec<Decision>) {
        self.grouped.append(decisions);
    }

    fn scan(&self) -> Outcome<u64> {
        let connection = connect(&self.path)?;
        let mut select = connection.prepare("SELECT bodies FROM events ORDER BY stream, seq")?;
        let mut rows = select.query([])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += events(row.get_ref(0)?.as_blob()?)?;
        }
        Ok(count)
    }

    fn close(self: Box<Self>) -> Outcome {
        self.grouped.close()
    }
}
