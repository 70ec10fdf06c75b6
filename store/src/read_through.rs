//! Delegation of [`LogReader`](crate::log::LogReader) to another reader.

/// Implements, inside `impl LogReader for …`, methods that delegate to another reader: all of them, or those
/// that are listed. Write the others next to the macro call.
///
/// # Examples
/// ```
/// use cloacina_store::log::{LogHead, LogReader, ReadError};
/// use cloacina_store::{MemoryDisk, MemoryLog, read_through};
///
/// struct Frozen(MemoryLog, LogHead);
///
/// impl LogReader for Frozen {
///     read_through!(self => self.0; read, stream, streams, tail, streams_since, tree, erasures, definition, location);
///
///     fn head(&self) -> Result<LogHead, ReadError> {
///         Ok(self.1.clone())
///     }
/// }
///
/// let log = MemoryLog::open(&MemoryDisk::new())?;
/// let head = log.head()?;
/// assert_eq!(Frozen(log, head.clone()).head()?, head);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! read_through {
    ($self:ident => $inner:expr) => {
        $crate::read_through!($self => $inner; read, stream, streams, tail, streams_since, tree, erasures, definition, head, wait, notices, location);
    };
    ($self:ident => $inner:expr; $($method:ident),+) => {
        $($crate::read_through!(@$method $self $inner);)+
    };
    (@read $self:ident $inner:expr) => {
        fn read(
            &$self,
            stream: $crate::record::StreamId,
            from: u64,
            limit: usize,
        ) -> Result<Vec<$crate::record::Record>, $crate::log::ReadError> {
            $inner.read(stream, from, limit)
        }
    };
    (@stream $self:ident $inner:expr) => {
        fn stream(
            &$self,
            stream: $crate::record::StreamId,
        ) -> Result<$crate::log::StreamEntry, $crate::log::ReadError> {
            $inner.stream(stream)
        }
    };
    (@streams $self:ident $inner:expr) => {
        fn streams(
            &$self,
            filter: &$crate::log::StreamFilter,
        ) -> Result<Vec<$crate::log::StreamEntry>, $crate::log::ReadError> {
            $inner.streams(filter)
        }
    };
    (@tail $self:ident $inner:expr) => {
        fn tail(&$self, from: u64, limit: usize) -> Result<Vec<$crate::record::Record>, $crate::log::ReadError> {
            $inner.tail(from, limit)
        }
    };
    (@streams_since $self:ident $inner:expr) => {
        fn streams_since(
            &$self,
            from: u64,
            limit: usize,
        ) -> Result<$crate::log::StreamsSince, $crate::log::ReadError> {
            $inner.streams_since(from, limit)
        }
    };
    (@tree $self:ident $inner:expr) => {
        fn tree(&$self, from: u64, limit: usize) -> Result<Vec<$crate::merkle::Node>, $crate::log::ReadError> {
            $inner.tree(from, limit)
        }
    };
    (@erasures $self:ident $inner:expr) => {
        fn erasures(
            &$self,
            stream: $crate::record::StreamId,
        ) -> Result<Vec<$crate::log::Erasure>, $crate::log::ReadError> {
            $inner.erasures(stream)
        }
    };
    (@definition $self:ident $inner:expr) => {
        fn definition(
            &$self,
            fingerprint: $crate::record::Hash,
        ) -> Result<Option<std::sync::Arc<[u8]>>, $crate::log::ReadError> {
            $inner.definition(fingerprint)
        }
    };
    (@head $self:ident $inner:expr) => {
        fn head(&$self) -> Result<$crate::log::LogHead, $crate::log::ReadError> {
            $inner.head()
        }
    };
    (@wait $self:ident $inner:expr) => {
        fn wait(
            &$self,
            after: u64,
            patience: std::time::Duration,
        ) -> Result<$crate::log::LogHead, $crate::log::ReadError> {
            $inner.wait(after, patience)
        }
    };
    (@notices $self:ident $inner:expr) => {
        fn notices(&$self) -> Result<$crate::log::Notices, $crate::log::ReadError> {
            $inner.notices()
        }
    };
    (@location $self:ident $inner:expr) => {
        fn location(&$self) -> String {
            $inner.location()
        }
    };
}
