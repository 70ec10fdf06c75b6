//! `replay ID prove SEQ`, `replay prove --since`, and `replay verify` of proofs and checkpoints.

use std::fs;
use std::io;
use std::path::Path;

use cloacina_engine::core::codec;
use cloacina_engine::core::time::Timestamp;
use cloacina_store::checkpoint::hex;
use cloacina_store::log_event::Checkpoint;

use super::arguments::{ProveArguments, VerifyArguments};
use super::failure::{Failure, code};
use super::screen::Screen;
use super::style::Tone;
use super::target::{TargetLog, quoted};
use super::text;
use crate::json::document::Object;
use crate::json::log::{CheckpointJson, ShownJson};
use crate::proof::{self, InvalidProof, Proof, ProveError, What};
use crate::time::rfc3339;

/// The size limit of a file: enough for a proof with the largest possible body.
const MAX_FILE_SIZE: u64 = 1024 * 1024 * 1024;

fn read(directory: &Path, file: &Path) -> Result<String, Failure> {
    let path = directory.join(file);
    let failed =
        |why: String| Failure::cannot_read(format!("{}: {why}", file.display()), "give a file that you can read");
    let length = fs::metadata(&path).map_err(|error| failed(error.to_string()))?.len();
    if length > MAX_FILE_SIZE {
        return Err(failed(format!("the file is too large ({length} bytes)")));
    }
    fs::read_to_string(&path).map_err(|error| failed(error.to_string()))
}

/// Reads a checkpoint from a file, and checks that `key` signed it, if given.
fn checkpoint(directory: &Path, file: &Path, key: Option<&str>) -> Result<Checkpoint, Failure> {
    let found = Checkpoint::from_text(&read(directory, file)?)
        .map_err(|error| mismatch(format!("{}: {error}", file.display())))?;
    check_key(&found, key)?;
    Ok(found)
}

fn check_key(found: &Checkpoint, key: Option<&str>) -> Result<(), Failure> {
    let signed_by = hex(&found.key);
    match key {
        Some(key) if !key.eq_ignore_ascii_case(&signed_by) => {
            Err(mismatch(format!("the checkpoint was signed with key {signed_by}, not with {key}")))
        }
        _ => Ok(()),
    }
}

fn mismatch(error: String) -> Failure {
    Failure::Diagnostic {
        code: code::VERIFY_FAILED,
        number: crate::errors::number::DAMAGED_LOG,
        error,
        details: Vec::new(),
        hint: "compare with a copy that is kept elsewhere".to_owned(),
    }
}

/// Returns the failure for a log that is damaged. The message calls it `location`.
pub fn damaged(location: &str) -> Failure {
    let log = quoted(location);
    Failure::Diagnostic {
        code: code::VERIFY_FAILED,
        number: crate::errors::number::DAMAGED_LOG,
        error: format!("{} is damaged", text::clean(location)),
        details: Vec::new(),
        hint: format!(
            "cp -a {log} COPY (keeps the evidence), then cloaca log repair --log {log} --to NEW (copies what is intact)"
        ),
    }
}

fn no_proof(error: ProveError, option: &str) -> Failure {
    match error {
        ProveError::Read(error) => error.into(),
        ProveError::NoCheckpoint { .. } => {
            Failure::not_found(error.to_string(), format!("cloaca log checkpoint{option}"))
        }
        ProveError::Imported => Failure::not_found(error.to_string(), "replay --log ORIGIN ID prove SEQ"),
        ProveError::Differs(what) => mismatch(what),
    }
}

/// Writes the proof that a record is in the log.
///
/// # Errors
/// [`Failure`].
pub fn record(
    screen: &mut Screen<'_>,
    log: &TargetLog,
    stream: cloacina_store::record::StreamId,
    arguments: &ProveArguments,
    (directory, json): (&Path, bool),
) -> Result<i32, Failure> {
    let seq = arguments.seq.ok_or_else(|| Failure::usage("no event given: expected its seq", "replay ID prove SEQ"))?;
    let records = log.reader.read(stream, seq, 1)?;
    let record = records.first().filter(|record| record.seq == seq).ok_or_else(|| {
        Failure::not_found(format!("no event with seq {seq}"), "replay ID --full (shows every event with its seq)")
    })?;
    let base = arguments.checkpoint.as_deref().map(|file| checkpoint(directory, file, None)).transpose()?;
    let proof = proof::of_record(&*log.reader, record, base, !arguments.without_body)
        .map_err(|error| no_proof(error, &log.option))?;
    write_proof(screen, &proof, json)
}

/// Writes a proof in its own file format or, with `--json`, as a member of a JSON object.
fn write_proof(screen: &mut Screen<'_>, proof: &Proof, json: bool) -> Result<i32, Failure> {
    if json {
        let mut object = Object::begin(screen.out, "proof")?;
        object.member("proof", proof)?;
        object.end()?;
    } else {
        write!(screen.out, "{}", proof.to_json()?)?;
    }
    Ok(code::OK)
}

/// Writes the proof that the log has only grown since a checkpoint.
///
/// # Errors
/// [`Failure`].
pub fn growth(
    screen: &mut Screen<'_>,
    log: &TargetLog,
    since: &Path,
    (directory, json): (&Path, bool),
) -> Result<i32, Failure> {
    let since = checkpoint(directory, since, None)?;
    let proof = proof::of_growth(&*log.reader, &since).map_err(|error| no_proof(error, &log.option))?;
    write_proof(screen, &proof, json)
}

/// Verifies a proof. No log is needed.
///
/// # Errors
/// [`Failure`]; an invalid proof has its own exit code.
pub fn verify_proof(
    screen: &mut Screen<'_>,
    arguments: &VerifyArguments,
    file: &Path,
    (directory, json): (&Path, bool),
) -> Result<i32, Failure> {
    let shown = Proof::from_json(&read(directory, file)?).and_then(|proof| proof.check());
    let shown = shown.map_err(|error| match error {
        InvalidProof::Foreign(_) => Failure::cannot_read(format!("{}: {error}", file.display()), "replay ID prove SEQ"),
        other => mismatch(format!("{}: {other}", file.display())),
    })?;
    let base = &shown.checkpoint;
    check_key(base, arguments.key.as_deref())?;
    if let Some(kept) = &arguments.checkpoint {
        let kept = checkpoint(directory, kept, arguments.key.as_deref())?;
        if (kept.origin, kept.size, kept.root) != (base.origin, base.size, base.root) {
            return Err(mismatch(format!(
                "the proof is based on a checkpoint of {} records with root {}, but the given checkpoint has {} \
                 records with root {}",
                base.size, base.root, kept.size, kept.root
            )));
        }
    }
    if json {
        let mut object = Object::begin(screen.out, "verify_proof")?;
        object.member("proves", &ShownJson::from(&shown))?;
        object.member("checkpoint", &CheckpointJson::from(base))?;
        object.member("key_checked", &arguments.key.is_some())?;
        object.end()?;
        return Ok(code::OK);
    }
    match &shown.what {
        What::Record { header, hash, body } => {
            screen.line(&format!("{}: this record was in the log", ok(screen)))?;
            screen.line(&format!("  stream    {}, seq {}, position {}", header.stream, header.seq, header.position))?;
            screen.line(&format!("  time      {}", rfc3339(Timestamp(header.time.0))))?;
            screen.line(&format!("  hash      {hash}"))?;
            if let Some(body) = body {
                let event = codec::decode_event(body).map(|event| format!("{}, ", event.name())).unwrap_or_default();
                screen.line(&format!("  body      {event}{}, as it was recorded", text::size(body.len() as u64)))?;
            }
        }
        What::Growth { since } => {
            screen.line(&format!(
                "{}: the log of {} records extends that of {}; no earlier record was changed or removed",
                ok(screen),
                base.size,
                since.size
            ))?;
        }
    }
    signature(screen, base, arguments)?;
    Ok(code::OK)
}

/// Verifies the log against a checkpoint.
///
/// # Errors
/// [`Failure`].
pub fn verify_checkpoint(
    screen: &mut Screen<'_>,
    arguments: &VerifyArguments,
    log: &TargetLog,
    file: &Path,
    (directory, json): (&Path, bool),
) -> Result<i32, Failure> {
    let found = checkpoint(directory, file, arguments.key.as_deref())?;
    proof::check_log(&*log.reader, &found).map_err(|error| no_proof(error, &log.option))?;
    if json {
        let mut object = Object::begin(screen.out, "verify_checkpoint")?;
        object.member("log", &log.path.display().to_string())?;
        object.member("checkpoint", &CheckpointJson::from(&found))?;
        object.member("key_checked", &arguments.key.is_some())?;
        object.end()?;
        return Ok(code::OK);
    }
    let count = text::count(found.size, "record");
    screen.line(&format!("{}: the first {count} of {} match the checkpoint", ok(screen), log.path.display()))?;
    signature(screen, &found, arguments)?;
    Ok(code::OK)
}

fn signature(screen: &mut Screen<'_>, found: &Checkpoint, arguments: &VerifyArguments) -> io::Result<()> {
    screen.line(&format!("  signed    {} with key {}", rfc3339(Timestamp(found.time.0)), hex(&found.key)))?;
    if arguments.key.is_none() {
        screen.line("            the key itself is not checked; --key HEX checks it")?;
    }
    Ok(())
}

fn ok(screen: &Screen<'_>) -> String {
    screen.style.paint(Tone::Good, "ok")
}
