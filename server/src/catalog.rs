//! What is registered: specs by model id, with versions, validators, aliases and what loads have taught.
//!
//! A [`Catalog`] keeps it in one SQLite file. Invariants: what a call has answered is on disk, whatever
//! happens to the process; ids and aliases are one name space; only one thread writes, each call as one
//! transaction; nothing here blocks an asynchronous task.

mod change;
mod database;
mod declare;
mod deferred_writes;
mod desired;
mod entry;
mod error;
mod history;
mod list;
mod names;
mod prompts;
mod readers;
mod requests;
mod row;
mod source_kind;
mod switches;
mod writer;

use std::{fmt, io, path::Path, sync::Arc};

pub use change::{EntryChange, LoadRequest, OnConflict, RegisterOutcome, UpdateOutcome};
pub use deferred_writes::DeferredWrite;
pub use entry::{
    CatalogEntry, LearnedFacts, LearnedMemory, LearnedPace, LoadAttempt, ModelOrigin, NewEntry,
};
pub use error::{
    DeclareError, DeleteError, NameTaken, OpenCatalogError, RegisterError, StorageError,
    UpdateError,
};
pub use history::KeptSample;
pub use list::{EntrySummary, ListFilter, ListOrder, ListPage, ListPosition, ListQuery};
use names::Names;
pub use prompts::LearnedPrompts;
use readers::Readers;
pub use requests::{RequestKey, ResponseToStore, StoredResponse};
use rusqlite::Connection;
pub use source_kind::SourceKind;
pub use switches::AliasMove;
use writer::CatalogWriter;

use crate::{
    model::{Etag, ModelId},
    supervisor::Supervisor,
};

/// The catalog. Clones are the same catalog; it ends with [`Catalog::close`].
#[derive(Clone)]
pub struct Catalog(Arc<CatalogParts>);

struct CatalogParts {
    writer: CatalogWriter,
    readers: Readers,
    names: Arc<Names>,
    capacity: usize,
    page_key: [u8; 32],
}

/// Threads that read.
const READERS: usize = 2;

impl Catalog {
    /// Opens the catalog in the file at `path`, which is made if there is none, for at most `capacity`
    /// models. Its threads are watched by `supervisor`. Blocks.
    ///
    /// # Errors
    ///
    /// See [`OpenCatalogError`].
    pub fn open(
        path: &Path,
        capacity: usize,
        supervisor: &Supervisor,
    ) -> Result<Self, OpenCatalogError> {
        let of = |error: rusqlite::Error| OpenCatalogError::of(path, &error);
        let connection = database::open(path)?;
        // Writes, so that a disk which takes no writes is met here.
        requests::prune(&connection).map_err(of)?;
        let names = Arc::new(read_names(&connection).map_err(of)?);
        let page_key = read_page_key(&connection).map_err(of)?;
        let readers = (0..READERS)
            .map(|_| database::open_to_read(path))
            .collect::<Result<_, _>>()?;
        let system = |error: io::Error| OpenCatalogError::system(path, &error);
        Ok(Self(Arc::new(CatalogParts {
            readers: Readers::start(readers, supervisor).map_err(system)?,
            writer: CatalogWriter::start(connection, names.clone(), supervisor).map_err(system)?,
            names,
            capacity,
            page_key,
        })))
    }

    /// Finishes what was begun and closes the file. Calls that come later fail.
    pub async fn close(&self) {
        self.0.readers.close().await;
        self.0.writer.close().await;
    }

    /// A number that is another one after each change: what was read since it was asked for is at least as new.
    pub fn generation(&self) -> u64 {
        self.0.writer.generation()
    }

    /// What page tokens are signed with; goes with the file.
    pub fn page_key(&self) -> &[u8; 32] {
        &self.0.page_key
    }

    /// The id of the model that `name` is an alias of, else `name`.
    pub fn resolve(&self, name: &ModelId) -> ModelId {
        self.0.names.resolve(name)
    }

    /// Registers a model, and remembers the response to `request` with it.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]: all but a conflict.
    pub async fn create(
        &self,
        new: NewEntry,
        request: Option<ResponseToStore>,
    ) -> Result<CatalogEntry, RegisterError> {
        let capacity = self.0.capacity;
        let work = move |change: &mut change::Change<'_>| change.create(new, capacity, request);
        self.0.writer.run(work).await
    }

    /// What [`Catalog::create`] would give, without doing it.
    ///
    /// # Errors
    ///
    /// As [`Catalog::create`].
    pub async fn check_create(&self, new: NewEntry) -> Result<CatalogEntry, RegisterError> {
        let capacity = self.0.capacity;
        let work = move |change: &mut change::Change<'_>| change.create(new, capacity, None);
        self.0.writer.dry_run(work).await
    }

    /// The entry of `name`: an id or an alias.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn get(&self, name: &ModelId) -> Result<Option<CatalogEntry>, StorageError> {
        let name = name.clone();
        self.read(move |connection| row::find(connection, &name))
            .await
    }

    /// A page of the list of entries.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn list(&self, query: ListQuery) -> Result<ListPage, StorageError> {
        self.read(move |connection| list::page(connection, &query))
            .await
    }

    /// Summaries of all entries, by id.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub async fn summaries(&self) -> Result<Vec<EntrySummary>, StorageError> {
        self.read(list::summaries).await
    }

    /// Changes the entry of `id`, and remembers the response to `request` with it. Only another spec makes
    /// another version and another etag.
    ///
    /// # Errors
    ///
    /// See [`UpdateError`].
    pub async fn update(
        &self,
        id: &ModelId,
        change: EntryChange,
        request: Option<ResponseToStore>,
    ) -> Result<UpdateOutcome, UpdateError> {
        let id = id.clone();
        self.0
            .writer
            .run(move |tx| tx.update(&id, change, request))
            .await
    }

    /// What [`Catalog::update`] would give, without doing it.
    ///
    /// # Errors
    ///
    /// As [`Catalog::update`].
    pub async fn check_update(
        &self,
        id: &ModelId,
        change: EntryChange,
    ) -> Result<UpdateOutcome, UpdateError> {
        let id = id.clone();
        let work = move |tx: &mut change::Change<'_>| tx.update(&id, change, None);
        self.0.writer.dry_run(work).await
    }

    /// Removes the entry of `id`, with its aliases if `force` is set, and remembers the response to `request`
    /// with that. Gives the entry as it was.
    ///
    /// # Errors
    ///
    /// See [`DeleteError`].
    pub async fn delete(
        &self,
        id: &ModelId,
        etag: Option<Etag>,
        force: bool,
        request: Option<ResponseToStore>,
    ) -> Result<CatalogEntry, DeleteError> {
        let id = id.clone();
        self.0
            .writer
            .run(move |change| change.delete(&id, etag, force, request))
            .await
    }

    /// What [`Catalog::delete`] would give, without doing it.
    ///
    /// # Errors
    ///
    /// As [`Catalog::delete`].
    pub async fn check_delete(
        &self,
        id: &ModelId,
        etag: Option<Etag>,
        force: bool,
    ) -> Result<CatalogEntry, DeleteError> {
        let id = id.clone();
        let work = move |change: &mut change::Change<'_>| change.delete(&id, etag, force, None);
        self.0.writer.dry_run(work).await
    }

    /// Makes the entries of the configuration file exactly these: others that came from there are removed,
    /// and one that a call has registered under such an id becomes the file's. Those that are required or
    /// preloaded are to be loaded from now on.
    ///
    /// # Errors
    ///
    /// See [`DeclareError`].
    pub async fn declare(&self, entries: Vec<NewEntry>) -> Result<(), DeclareError> {
        let capacity = self.0.capacity;
        self.0
            .writer
            .run(move |change| declare::declare(change, entries, capacity))
            .await
    }

    /// Ids of all models, in order.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub async fn ids(&self) -> Result<Vec<ModelId>, StorageError> {
        self.read(|connection| list::ids(connection, None)).await
    }

    /// Ids of the first `limit` models, in order.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub async fn known(&self, limit: usize) -> Result<Vec<ModelId>, StorageError> {
        self.read(move |connection| list::ids(connection, Some(limit)))
            .await
    }

    /// The response that was given to a call, if it was less than a day ago.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn recall(&self, key: &RequestKey) -> Result<Option<StoredResponse>, StorageError> {
        let key = key.clone();
        self.read(move |connection| requests::read(connection, &key))
            .await
    }

    /// Remembers the response to a call.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub async fn remember(
        &self,
        key: RequestKey,
        remembered: StoredResponse,
    ) -> Result<(), StorageError> {
        self.write(move |change| requests::write(change.connection(), &key, &remembered))
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.0.readers.run(work).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut change::Change<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.0
            .writer
            .run(move |change| work(change).map_err(StorageError::from))
            .await
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("capacity", &self.0.capacity)
            .finish_non_exhaustive()
    }
}

fn read_names(connection: &Connection) -> rusqlite::Result<Names> {
    let mut statement = connection.prepare("SELECT alias, model_id FROM aliases")?;
    let names = statement.query_map([], |found| Ok((row::id(found, 0)?, row::id(found, 1)?)))?;
    Ok(Names::new(names.collect::<Result<_, _>>()?))
}

fn read_page_key(connection: &Connection) -> rusqlite::Result<[u8; 32]> {
    let sql = "SELECT value FROM secrets WHERE name = 'page_token'";
    connection.query_row(sql, [], |row| row.get(0))
}

#[cfg(test)]
mod tests;
