//! A CSV file that grows by a line for each result, and knows what it has.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was run, and what came of it: one line of a file each.
#[derive(Debug)]
pub struct Journal<K, V> {
    file: File,
    rows: Vec<(K, V)>,
}

impl<K: Serialize + DeserializeOwned + PartialEq, V: Serialize + DeserializeOwned> Journal<K, V> {
    /// Opens the file at `path`, or makes it, with these `columns`: the fields of a key, then those of a
    /// value. A last line that was cut off is removed. The file is locked as long as this lives.
    ///
    /// # Errors
    /// When another process has it, or when its content is no journal of these columns.
    pub fn open(path: &Path, columns: &[&str]) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).truncate(false).open(path).with_context(name)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("{}: another process writes it", name()))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = memchr::memrchr(b'\n', &text).map_or(0, |end| end + 1);
        text.truncate(whole);
        file.set_len(whole as u64)?;
        if text.is_empty() {
            let mut header = csv::Writer::from_writer(Vec::new());
            header.write_record(columns)?;
            file.write_all(&header.into_inner()?)?;
        }
        let mut journal = Journal { file, rows: Vec::new() };
        journal.read(&text, columns).with_context(name)?;
        Ok(journal)
    }

    fn read(&mut self, text: &[u8], columns: &[&str]) -> anyhow::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut reader = csv::Reader::from_reader(text);
        let header = reader.headers()?.clone();
        ensure!(header.iter().eq(columns.iter().copied()), "its columns are others: choose another folder");
        for record in reader.records() {
            let record = record?;
            self.rows.push((record.deserialize(Some(&header))?, record.deserialize(Some(&header))?));
        }
        Ok(())
    }

    /// Every line.
    pub fn rows(&self) -> &[(K, V)] {
        &self.rows
    }

    /// Whether `key` has a line.
    pub fn has(&self, key: &K) -> bool {
        self.rows.iter().any(|(known, _)| known == key)
    }

    /// Adds a line, which is on the drive afterwards.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, key: K, value: V) -> anyhow::Result<()> {
        let mut line = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        line.serialize((&key, &value))?;
        self.append(&line.into_inner()?)?;
        self.rows.push((key, value));
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let end = self.file.seek(SeekFrom::End(0))?;
        // Half a line would spoil those after it.
        self.file.write_all(line).inspect_err(|_| drop(self.file.set_len(end)))?;
        self.file.sync_data()
    }
}
