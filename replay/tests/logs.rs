//! Selection of the log, and the file of recently opened logs. Uses no files in the user's home.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use cloacina_replay::logs::{ChosenBy, Logs, NoLog, choose, remember};

fn make_log(path: &Path) -> PathBuf {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("format"), "cloacina-log 1\n").unwrap();
    path.to_owned()
}

/// An environment with only the state directory set.
fn state(directory: &Path) -> impl Fn(&str) -> Option<OsString> {
    let directory = directory.to_owned();
    move |name| (name == "XDG_STATE_HOME").then(|| directory.clone().into_os_string())
}

#[test]
fn the_log_opened_last_comes_first_and_each_one_once() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("state/cloaca/logs");
    let logs: Vec<PathBuf> =
        (0..30).map(|number| temp.path().join(format!("log {number}"))).map(|path| make_log(&path)).collect();
    for log in &logs {
        remember(&file, log).unwrap();
    }
    remember(&file, &logs[25]).unwrap();
    remember(&file, &logs[25]).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let kept: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
    assert_eq!(kept.len(), 20);
    assert_eq!(kept[..3], [logs[25].clone(), logs[29].clone(), logs[28].clone()]);
    assert_eq!(kept.iter().filter(|log| **log == logs[25]).count(), 1);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn what_was_remembered_is_found_while_it_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let (one, other) = (make_log(&temp.path().join("one")), make_log(&temp.path().join("other")));
    let file = temp.path().join("cloaca/logs");
    remember(&file, &one).unwrap();
    remember(&file, &other).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let chosen = || choose(None, &state(temp.path()), elsewhere.path());
    assert_eq!(chosen(), Ok(Logs { paths: vec![other.clone(), one.clone()], by: ChosenBy::Recent }));
    fs::remove_dir_all(&other).unwrap();
    assert_eq!(chosen(), Ok(Logs { paths: vec![one.clone()], by: ChosenBy::Recent }));
    fs::remove_dir_all(&one).unwrap();
    assert!(matches!(chosen(), Err(NoLog::None { .. })));
}

#[test]
fn a_path_that_is_no_line_is_not_remembered() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("cloaca/logs");
    remember(&file, Path::new("/two\nlines")).unwrap_err();
    assert!(!file.exists());
}

#[test]
fn a_log_in_the_working_directory_goes_before_a_remembered_one() {
    let temp = tempfile::tempdir().unwrap();
    let log = make_log(&temp.path().join("old"));
    remember(&temp.path().join("cloaca/logs"), &log).unwrap();
    let here = tempfile::tempdir().unwrap();
    make_log(&here.path().join("flow.db"));
    let chosen = choose(None, &state(temp.path()), here.path());
    assert_eq!(chosen, Ok(Logs { paths: vec!["./flow.db".into()], by: ChosenBy::Directory }));
    make_log(&here.path().join("other.db"));
    assert!(matches!(choose(None, &state(temp.path()), here.path()), Err(NoLog::Several { .. })));
}
