//! Power cuts during changes other than appends: acknowledged changes are done, others are done completely or not at all; no
//! erased or pruned text comes back.
//!
//! Uses recordings as in `power_cut.rs`. A failure keeps its recording and its image.

use std::fs;
use std::path::{Path, PathBuf};

use crate::powercut::change_cut::{
    AFTERWARDS, Checked, Cut, Rules, Scene, Streams, files, no_text_of, seen, streams_of,
};
use crate::powercut::changing::{self, ARCHIVED, CHANGED, IMPORTED, REPAIRED};
use crate::powercut::checker::{Answer, Checker};
use crate::powercut::disk::HonouredSyncs;
use crate::powercut::recording::Event;
use crate::powercut::{judge, load, victim};
use cloacina_store::archive::open_archive;
use cloacina_store::keeper::{Change, Import};
use cloacina_store::open_keeper;
use cloacina_store::record::StreamId;
use cloacina_store::repair::repair;
use cloacina_store::{is_left_by_compact, open_reader};

/// Creates a disk with a log of a load.
fn disk_with(recorder: &Path, place: &Path, load: &str, phase: u64) -> PathBuf {
    let disk = place.join(format!("with-{load}"));
    fs::create_dir(&disk).unwrap();
    let run = victim::write(recorder, load, phase, &disk, None).unwrap();
    assert!(run.status.success(), "{load}: {} {}", run.status, run.stderr);
    disk
}

fn archive_of(recorder: &Path, place: &Path, to: &Path) {
    let other = disk_with(recorder, place, "closed", 0);
    changing::archive(&*open_reader(&other.join(victim::LOG)).unwrap(), to).unwrap();
}

/// The streams whose erasure or pruning the marks acknowledge.
fn acknowledged_streams(marks: &[&str]) -> Vec<StreamId> {
    let streams = load::streams(&load::named("closed").unwrap(), 0);
    let numbers = marks.iter().filter_map(|mark| mark.strip_prefix("changed ")?.parse::<usize>().ok());
    numbers.map(|number| streams[number]).collect()
}

const TEXT_IS_GONE: Rules =
    Rules { changed: acknowledged_streams, image: |_| Ok(()), opened: |cut| cut.erased_text_is_gone() };

fn erase_or_prune(name: &'static str, what: &str, before: &str) -> Option<Scene> {
    let scene = Scene::record(name, what, None, TEXT_IS_GONE, |recorder, place| disk_with(recorder, place, before, 0))?;
    assert!(no_text_of(&[0, 1, 2, 3], &scene.before).is_err(), "otherwise this test proves nothing");
    let changed = scene.old.iter().filter(|(stream, line)| scene.new.get(*stream) != Some(*line)).count();
    assert_eq!(changed, CHANGED);
    Some(scene)
}

fn while_appending() -> Option<Scene> {
    let before = |recorder: &Path, place: &Path| disk_with(recorder, place, "closed", 0);
    Scene::record("changing-while-appending", "all-while-appending", load::named("small"), TEXT_IS_GONE, before)
}

fn compacting() -> Option<Scene> {
    let pruned = |recorder: &Path, place: &Path| {
        let disk = disk_with(recorder, place, "closed", 0);
        let run = victim::change(recorder, "prune", &disk).unwrap();
        assert!(run.status.success(), "{}", run.stderr);
        disk
    };
    let rules = Rules { image: is_new_log_if_acknowledged, opened: other_log_is_gone, ..Rules::default() };
    let scene = Scene::record("compacting", "compact", None, rules, pruned)?;
    assert!(scene.events.iter().any(|event| matches!(event, Event::Exchange { .. } | Event::Rename { .. })));
    Some(scene)
}

fn is_new_log_if_acknowledged(cut: &Cut<'_>) -> Checked {
    let is_old = || files(&cut.log()) == files(&cut.scene.before.join(victim::LOG));
    if cut.has_mark("compacted") && is_old() {
        Err("reported as compacted, but the old log is there".to_owned())
    } else {
        Ok(())
    }
}

fn other_log_is_gone(cut: &Cut<'_>) -> Checked {
    let mut beside = fs::read_dir(cut.log().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    match beside.find(|path| is_left_by_compact(path)) {
        Some(left) => Err(format!("{} is still there", left.display())),
        None => Ok(()),
    }
}

fn archiving() -> Option<Scene> {
    let before = |recorder: &Path, place: &Path| disk_with(recorder, place, "closed", 0);
    let rules = Rules { image: archive_is_absent_or_complete, opened: can_be_archived, ..Rules::default() };
    Scene::record("archiving", "archive", None, rules, before)
}

fn archive_is_absent_or_complete(cut: &Cut<'_>) -> Checked {
    let whole = cut.scene.place.path().join("changed").join(victim::LOG).with_file_name(ARCHIVED);
    match fs::read(cut.log().with_file_name(ARCHIVED)) {
        Ok(content) if content == fs::read(whole).unwrap() => Ok(()),
        Ok(content) => Err(format!("an archive of {} bytes is incomplete", content.len())),
        Err(_) if cut.has_mark("archived") => Err("reported as archived, but the archive is missing".to_owned()),
        Err(_) => Ok(()),
    }
}

fn can_be_archived(cut: &Cut<'_>) -> Checked {
    let archive = cut.log().with_file_name(ARCHIVED);
    if archive.exists() {
        return Ok(());
    }
    let log = open_reader(&cut.log()).map_err(|error| error.to_string())?;
    changing::archive(&*log, &archive).map_err(|error| format!("archived again: {error}"))
}

fn importing() -> Option<Scene> {
    let before = |recorder: &Path, place: &Path| {
        let disk = disk_with(recorder, place, "small", 1);
        archive_of(recorder, place, &disk.join(victim::LOG).with_file_name(IMPORTED));
        disk
    };
    let changed = |marks: &[&str]| if marks.contains(&"imported") { imported() } else { Vec::new() };
    let rules = Rules { changed, opened: can_be_imported, ..Rules::default() };
    let scene = Scene::record("importing", "import", None, rules, before)?;
    assert!(imported().iter().all(|stream| scene.new.contains_key(stream) && !scene.old.contains_key(stream)));
    Some(scene)
}

fn imported() -> Vec<StreamId> {
    load::streams(&load::named("closed").unwrap(), 0)
}

fn can_be_imported(cut: &Cut<'_>) -> Checked {
    let archive = cut.log().with_file_name(IMPORTED);
    let digest = open_archive(&archive).map_err(|error| error.to_string())?.digest();
    let keeper = open_keeper(&cut.log()).map_err(|error| error.to_string())?;
    let again = keeper.change(Change::Import(Import { archive, digest })).map_err(|error| error.to_string())?;
    keeper.finish().map_err(|error| error.to_string())?;
    let found = streams_of(&cut.after, &[AFTERWARDS]);
    let already = imported().iter().filter(|stream| found.contains_key(stream)).count();
    let expected = ((imported().len() - already) as u64, already as u64);
    if (again.streams, again.already) == expected { Ok(()) } else { Err(format!("imported again: {again:?}")) }
}

fn repairing() -> Option<Scene> {
    let before = |recorder: &Path, place: &Path| disk_with(recorder, place, "left", 0);
    let rules = Rules { image: damaged_log_is_unchanged, opened: repaired_log_is_complete, ..Rules::default() };
    Scene::record("repairing", "repair", None, rules, before)
}

fn damaged_log_is_unchanged(cut: &Cut<'_>) -> Checked {
    let is_same = files(&cut.log()) == files(&cut.scene.before.join(victim::LOG));
    if is_same { Ok(()) } else { Err("the damaged log was changed".to_owned()) }
}

/// The repaired log is complete as far as it exists, and the repair can be repeated.
fn repaired_log_is_complete(cut: &Cut<'_>) -> Checked {
    let (repaired, again) = (cut.log().with_file_name(REPAIRED), cut.log().with_file_name("again"));
    let is_there = match Checker::new().read(&repaired) {
        Answer::Refused(why) if why.contains("there is no log at") => Streams::new(),
        answer => {
            let seen = seen(answer).map_err(|what| format!("the new log: {what}"))?;
            judge::is_intact(&seen).map_err(|what| format!("the new log: {what}"))?;
            streams_of(&seen, &[])
        }
    };
    let old = &cut.scene.old;
    if let Some((stream, _)) = is_there.iter().find(|(stream, line)| old.get(*stream) != Some(*line)) {
        return Err(format!("the new log differs in {stream}"));
    }
    if cut.has_mark("repaired") && is_there != *old {
        return Err(format!("reported as repaired, but {} of {} streams are there", is_there.len(), old.len()));
    }
    let result = repair(&cut.log(), &again).map_err(|error| format!("repaired again: {error}"))?;
    if result.lost.is_empty() { Ok(()) } else { Err(format!("repaired again: {result:?}")) }
}

fn survives(scene: Option<Scene>, images: usize) {
    if let Some(scene) = scene {
        scene.survives(images);
    }
}

#[test]
fn erasing_survives() {
    survives(erase_or_prune("erasing", "erase", "closed"), 40);
}

#[test]
fn erasing_in_a_log_whose_process_died_survives() {
    survives(erase_or_prune("erasing-left", "erase", "left"), 30);
}

#[test]
fn pruning_survives() {
    survives(erase_or_prune("pruning", "prune", "closed"), 40);
}

#[test]
fn pruning_in_a_log_whose_process_died_survives() {
    survives(erase_or_prune("pruning-left", "prune", "left"), 30);
}

#[test]
fn erasing_and_pruning_between_appends_survives() {
    survives(while_appending(), 50);
}

/// The log at its path is the old or the new one, complete, and the other one is gone once the log was opened for writing.
#[test]
fn compacting_survives() {
    survives(compacting(), 60);
}

/// An archive is absent or complete; if it is absent it can be created again.
#[test]
fn archiving_survives() {
    survives(archiving(), 40);
}

/// Each stream of an archive is there or not, and the import can be repeated.
#[test]
fn importing_survives() {
    survives(importing(), 60);
}

/// The damaged log is not changed; the new one is complete as far as it exists; the repair can be repeated.
#[test]
fn repairing_survives() {
    survives(repairing(), 40);
}

/// Tests the harness: on a disk that ignores syncs, each change is lost or half done in some image.
#[test]
fn without_the_syncs_each_change_is_lost() {
    let scenes = [
        erase_or_prune("erasing", "erase", "closed"),
        erase_or_prune("pruning", "prune", "closed"),
        while_appending(),
        compacting(),
        archiving(),
        importing(),
        repairing(),
    ];
    scenes.iter().flatten().for_each(|scene| assert_some_image_is_wrong(scene, HonouredSyncs::Nothing));
}

/// An exchange or a rename is durable only once the directory is synced.
#[test]
fn without_the_sync_of_directories_names_are_lost() {
    [compacting(), archiving(), repairing()]
        .iter()
        .flatten()
        .for_each(|scene| assert_some_image_is_wrong(scene, HonouredSyncs::AllButDirectories));
}

fn assert_some_image_is_wrong(scene: &Scene, honoured: HonouredSyncs) {
    // Few images are enough for most changes.
    let found = (0..10).find_map(|ten| Some((ten, scene.cut(honoured, 10 * ten..10 * ten + 10).into_iter().next()?)));
    let Some((tens, wrong)) = found else { panic!("{}, {honoured:?}: all 100 images are correct", scene.name) };
    println!("{}, {honoured:?}, detected after at most {} images: {wrong}", scene.name, 10 * tens + 10);
}
