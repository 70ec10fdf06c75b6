//! Logs on a machine with other users.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cloacina_store::log::EventLog;
use cloacina_store::{compact, open_reader};

use super::{content, refusal, writable, written};
use crate::suite::{one, stream};

/// Returns the permissions for group and others of a log and of each file in it.
fn permissions_for_others(path: &Path) -> Vec<(String, u32)> {
    let mut found = vec![(".".to_owned(), fs::symlink_metadata(path).unwrap().mode() & 0o077)];
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let inner = permissions_for_others(&entry.path());
            found.extend(inner.into_iter().map(|(inside, mode)| (format!("{name}/{inside}"), mode)));
        } else {
            found.push((name, entry.metadata().unwrap().mode() & 0o077));
        }
    }
    found
}

/// Does what `chmod -R g+rX` does.
fn open_to_group(path: &Path) {
    let is_directory = path.is_dir();
    let mode = fs::metadata(path).unwrap().mode() & 0o7777;
    fs::set_permissions(path, Permissions::from_mode(mode | if is_directory { 0o050 } else { 0o040 })).unwrap();
    if is_directory {
        fs::read_dir(path).unwrap().for_each(|entry| open_to_group(&entry.unwrap().path()));
    }
}

/// Regression: the permissions of a log followed the umask, so on most machines everybody could read it.
#[test]
fn a_new_log_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let above = directory.path().join("above");
    let path = above.join("log");
    let log = writable(&path).unwrap();
    assert_eq!(
        permissions_for_others(&path).iter().filter(|(_, mode)| *mode != 0).count(),
        0,
        "{:?}",
        permissions_for_others(&path)
    );
    log.append(one(stream(1), 0, b"a")).unwrap();
    log.close().unwrap();
    assert_eq!(
        permissions_for_others(&path).iter().filter(|(_, mode)| *mode != 0).count(),
        0,
        "{:?}",
        permissions_for_others(&path)
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    // The same in a directory that existed before (`mkdir`), whose own mode is kept.
    let made = directory.path().join("made");
    fs::create_dir(&made).unwrap();
    fs::set_permissions(&made, Permissions::from_mode(0o755)).unwrap();
    written(&made);
    assert!(permissions_for_others(&made).iter().all(|(name, mode)| *mode == if name == "." { 0o055 } else { 0 }));
}

/// Regression: users change the mode of a log so that a group can read it. Later files, and a compacted log, did not follow that mode.
#[test]
fn later_files_have_the_permissions_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    open_to_group(&path);
    let assert_kept = |after: &str| {
        for (name, mode) in permissions_for_others(&path) {
            let expected = if name.ends_with('.') && !name.contains("snap.") { 0o050 } else { 0o040 };
            assert_eq!(mode, if name == "socket" { 0 } else { expected }, "{name} after {after}");
        }
    };
    fs::remove_file(path.join("lock")).unwrap();
    fs::remove_dir_all(path.join("index")).unwrap();
    let log = writable(&path).unwrap();
    assert_kept("an open");
    log.append(one(stream(7), 0, &[1; 9_000])).unwrap();
    log.close().unwrap();
    assert_kept("a close");
    compact(&path).unwrap();
    assert_kept("a compact");
    written_more(&path, 8);
    assert_kept("a close of it");
}

fn written_more(path: &Path, number: u128) {
    let log = writable(path).unwrap();
    log.append(one(stream(number), 0, b"more")).unwrap();
    log.close().unwrap();
}

/// A directory that was given to a group before the log was created: the group can read the files, too.
#[test]
fn a_log_in_a_directory_that_was_opened_to_a_group_alone_is_for_that_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o2750)).unwrap();
    written(&path);
    for (name, mode) in permissions_for_others(&path) {
        assert_eq!(mode & 0o047, 0o040, "{name}");
    }
    assert_eq!(fs::metadata(path.join("segments")).unwrap().mode() & 0o7777, 0o2750, "it passes the group on, too");
}

/// As root, on the log of a user: rewritten files stay the user's. Only root can change owners, so others skip this test.
#[test]
fn a_log_keeps_its_owner_no_matter_who_writes() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    written(&path);
    let give = |path: &Path| std::os::unix::fs::chown(path, Some(65_534), Some(65_533)).unwrap();
    give(&path);
    for entry in fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()) {
        give(&entry);
    }
    give(&path.join("segments/0000000001"));
    let assert_kept = |after: &str| {
        let in_index = ["index", "index/db", "index/conf", "index/blobs"];
        for name in [".", "head", "format", "lock", "segments", "segments/0000000001"].into_iter().chain(in_index) {
            let Ok(about) = fs::metadata(path.join(name)) else {
                assert!(in_index.contains(&name) && after == "a compact", "{name} after {after}");
                continue;
            };
            assert_eq!((about.uid(), about.gid()), (65_534, 65_533), "{name} after {after}");
        }
    };
    written_more(&path, 8);
    assert_kept("a close");
    compact(&path).unwrap();
    written_more(&path, 9);
    assert_kept("a compact");
}

/// Regression: in a directory that others can write to, `creating`, `format.new`, `lock` and `head.new` could be links, whose
/// targets were overwritten, also by root.
#[test]
fn nothing_in_the_directory_of_a_log_is_followed_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let (victim, victims) = (directory.path().join("victim"), directory.path().join("victims"));
    fs::write(&victim, "a file of somebody else").unwrap();
    fs::create_dir(&victims).unwrap();
    let empty = |name: &str| {
        let path = directory.path().join(format!("empty-{}", name.replace('/', "-")));
        fs::create_dir(&path).unwrap();
        path
    };
    let made = |name: &str| {
        let path = directory.path().join(format!("made-{}", name.replace('/', "-")));
        written(&path);
        path
    };
    let files = ["creating", "format.new", "format", "lock", "head.new", "head"];
    let of_index = ["index/conf", "index/db", "index/snap.0000000000000001"];
    let directories = ["segments", "index", "index/blobs"];
    for name in files.into_iter().chain(of_index).chain(directories) {
        for path in [empty(name), made(name)] {
            let link = path.join(name);
            if !link.parent().unwrap().exists() {
                continue;
            }
            match fs::symlink_metadata(&link) {
                Ok(there) if there.is_dir() => fs::remove_dir_all(&link).unwrap(),
                Ok(_) => fs::remove_file(&link).unwrap(),
                Err(_) => {}
            }
            symlink(if directories.contains(&name) { &victims } else { &victim }, &link).unwrap();
            if name.starts_with("index") {
                // The index is disposable: it is removed and rebuilt.
                let opened = writable(&path).map(|log| {
                    log.append(one(stream(7), 0, b"a")).unwrap();
                    log.close().unwrap();
                });
                assert!(opened.is_ok() || refusal(&path).contains("a symbolic link"), "{name}: {opened:?}");
                assert_eq!(fs::read_to_string(&victim).unwrap(), "a file of somebody else", "{name}");
                assert_eq!(fs::read_dir(&victims).unwrap().count(), 0, "{name}");
                continue;
            }
            let before = content(&path);
            assert!(refusal(&path).contains("a symbolic link"), "{name}: {}", refusal(&path));
            assert!(open_reader(&path).is_err(), "{name}");
            assert!(compact(&path).is_err(), "{name}");
            assert_eq!(content(&path), before, "{name}");
            assert_eq!(fs::read_to_string(&victim).unwrap(), "a file of somebody else", "{name}");
            assert_eq!(fs::read_dir(&victims).unwrap().count(), 0, "{name}");
        }
    }
    let segment = made("segment").join("segments/0000000001");
    fs::rename(&segment, directory.path().join("elsewhere")).unwrap();
    symlink(directory.path().join("elsewhere"), &segment).unwrap();
    assert!(writable(&directory.path().join("made-segment")).is_err());
}

/// A link that replaces a file while a process has the log open.
#[test]
fn a_link_that_appears_while_a_log_is_open_is_not_followed() {
    for name in ["head.new", "head", "segments/0000000001", "index/db"] {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("log"), directory.path().join("victim"));
        fs::write(&victim, "a file of somebody else").unwrap();
        let log = writable(&path).unwrap();
        log.append(one(stream(1), 0, b"a")).unwrap();
        let _ = fs::remove_file(path.join(name));
        symlink(&victim, path.join(name)).unwrap();
        let closed = log.close();
        assert_eq!(closed.is_err(), name.starts_with("segments"), "{name}: {closed:?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "a file of somebody else", "{name}");
        assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o100, 0);
    }
}

/// Regression: opening a log with a pipe in the place of a file blocked forever.
#[test]
fn a_pipe_in_the_place_of_a_file_blocks_nobody() {
    for name in ["head", "lock", "segments/0000000001", "index/db", "index/conf"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        written(&path);
        fs::remove_file(path.join(name)).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path.join(name), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        // The index is rebuilt.
        assert_eq!(writable(&path).is_err(), !name.starts_with("index"), "{name}");
        // A reader needs nothing from an unheld lock file but that it can be locked.
        assert_eq!(open_reader(&path).is_err(), !name.starts_with("index") && name != "lock", "{name}");
    }
}
