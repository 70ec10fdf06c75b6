//! `cloaca log checkpoint`: signs the current state of a log.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cloacina_replay::cli::text;
use cloacina_store::checkpoint::{hex, sign, unhex};
use cloacina_store::keeper::Change;
use cloacina_store::open_keeper;
use cloacina_store::record::Timestamp;
use rand::RngCore;

use crate::arguments::CheckpointArguments;
use crate::failure::{Failure, code};
use crate::surroundings::Surroundings;

pub(crate) fn run(options: &CheckpointArguments, path: &Path, env: &mut Surroundings<'_>) -> Result<(), Failure> {
    let output = options.output.as_ref().map(|file| env.directory.join(file));
    if let Some(file) = output.as_ref().filter(|file| file.symlink_metadata().is_ok()) {
        let error = format!("{} already exists", file.display());
        return Err(Failure::new(code::NOT_DONE, error, "cloaca log checkpoint -o OTHER"));
    }
    let secret = secret(&key_file(options, env)?, env)?;
    let keeper = open_keeper(path)?;
    let checkpoint = sign(&*keeper, &secret, Timestamp(env.now.0))?;
    keeper.change(Change::Sign(checkpoint.clone()))?;
    let text = checkpoint.to_text();
    match output {
        None => write!(env.out, "{text}")?,
        Some(file) => OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&file)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|error| cannot(&file, &error))?,
    }
    let size = text::count(checkpoint.size, "record");
    writeln!(env.err, "signed {size} of {} with key {}", path.display(), hex(&checkpoint.key))?;
    writeln!(
        env.err,
        "\nhint: replay verify --checkpoint FILE (store the file where users who can write to the log cannot change it)"
    )?;
    Ok(())
}

fn cannot(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(code::CANNOT_ACCESS, format!("{}: {error}", file.display()), "choose another file with --key or -o")
}

fn key_file(options: &CheckpointArguments, env: &Surroundings<'_>) -> Result<PathBuf, Failure> {
    if let Some(file) = &options.key {
        return Ok(env.directory.join(file));
    }
    let set = |name| (env.variable)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config =
        set("XDG_CONFIG_HOME").filter(|path| path.is_absolute()).or_else(|| Some(set("HOME")?.join(".config")));
    let config = config.ok_or_else(|| {
        Failure::usage("no directory for the key: $HOME is not set", "cloaca log checkpoint --key FILE")
    })?;
    Ok(config.join("cloaca/checkpoint.key"))
}

/// Reads the secret key from a file: 64 hex digits. If the file does not exist, creates it with a new key.
fn secret(file: &Path, env: &mut Surroundings<'_>) -> Result<[u8; 32], Failure> {
    let mut text = String::new();
    match OpenOptions::new().read(true).open(file) {
        Ok(mut opened) => {
            let metadata = opened.metadata().map_err(|error| cannot(file, &error))?;
            if metadata.mode() & 0o077 != 0 {
                let error = format!("{}: the secret key is accessible to other users", file.display());
                return Err(Failure::new(
                    code::NOT_DONE,
                    error,
                    format!("chmod 600 {}, or create a new key", file.display()),
                ));
            }
            Read::take(&mut opened, 1_024).read_to_string(&mut text).map_err(|error| cannot(file, &error))?;
            unhex(text.trim()).ok_or_else(|| {
                let error = format!("{}: not a secret key (64 hex digits)", file.display());
                Failure::new(code::NOT_DONE, error, "cloaca log checkpoint --key NEW_FILE (creates one)")
            })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create_key(file, env),
        Err(error) => Err(cannot(file, &error)),
    }
}

fn create_key(file: &Path, env: &mut Surroundings<'_>) -> Result<[u8; 32], Failure> {
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    let write = || -> std::io::Result<()> {
        if let Some(directory) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        writeln!(opened, "{}", hex(&secret))?;
        opened.sync_all()
    };
    if let Err(error) = write() {
        // Remove a partly written key, but not a file that another process has created meanwhile.
        if error.kind() != ErrorKind::AlreadyExists {
            let _ = fs::remove_file(file);
        }
        return Err(cannot(file, &error));
    }
    writeln!(
        env.err,
        "created a new key in {}; anyone who has it can sign: protect it from users who can write to the log",
        file.display()
    )?;
    Ok(secret)
}
