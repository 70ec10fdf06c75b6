//! Selection of the log, and lookup of an execution in it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::histories::{self, COMPLETED, TUTORIAL};
use crate::common::id;
use cloacina_replay::ids::{NotFound, resolve};
use cloacina_replay::logs::{ChosenBy, NoLog, choose};

#[test]
fn an_id_is_found_whole_by_its_end_and_by_its_beginning() {
    let log = histories::all();
    let wanted = id(COMPLETED);
    for text in [
        "01935f01-0000-7000-8000-00009f3ac101",
        "01935f010000700080000000 9f3ac101".replace(' ', "").as_str(),
        "9f3ac101",
        "9F3AC101",
        "…9f3ac101",
        "...c101",
        "01935f01",
        "01935f01-0000",
    ] {
        assert_eq!(resolve(&*log.0, text), Ok(wanted), "{text}");
    }
}

#[test]
fn the_newest_is_named_by_signs() {
    let log = histories::all();
    let newest = resolve(&*log.0, "latest").unwrap();
    assert_eq!(resolve(&*log.0, "@"), Ok(newest));
    assert_ne!(resolve(&*log.0, "@-"), Ok(newest));
    assert_eq!(resolve(&*log.0, "@-------"), Ok(id(TUTORIAL)));
}

#[test]
fn what_fits_several_or_none_is_told_with_what_is_near() {
    let log = histories::all();
    let Err(NotFound::Ambiguous { candidates, more }) = resolve(&*log.0, "01935f") else { panic!("it fits all") };
    assert_eq!((candidates.len(), more), (9, false));
    let Err(NotFound::Unknown { nearest }) = resolve(&*log.0, "9f3ac103") else { panic!("there is none") };
    assert_eq!(nearest.len(), 2);
    assert!(matches!(resolve(&*log.0, "nightly"), Err(NotFound::NoId(_))));
}

fn make_log(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("format"), "cloacina-log 1\n").unwrap();
}

#[test]
fn a_log_is_chosen_by_option_variable_directory_and_memory_in_this_order() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let old = directory.path().join("elsewhere/old.db");
    make_log(&old);
    fs::create_dir_all(state.join("cloaca")).unwrap();
    let gone = directory.path().join("gone.db");
    fs::write(state.join("cloaca/logs"), format!("{}\n{}\n", gone.display(), old.display())).unwrap();
    let work = directory.path().join("work");
    fs::create_dir_all(&work).unwrap();
    let by_state = |name: &str| (name == "XDG_STATE_HOME").then(|| state.clone().into_os_string());

    let recent = choose(None, &by_state, &work).unwrap();
    assert_eq!((recent.by, recent.paths), (ChosenBy::Recent, vec![old]));

    make_log(&work.join("a.db"));
    fs::create_dir_all(work.join("not-a-log")).unwrap();
    let here = choose(None, &by_state, &work).unwrap();
    assert_eq!((here.by, here.paths), (ChosenBy::Directory, vec![PathBuf::from("./a.db")]));

    let by_variable = |name: &str| (name == "CLOACA_LOG").then(|| "/var/v.db".into());
    assert_eq!(choose(None, &by_variable, &work).unwrap().paths, [PathBuf::from("/var/v.db")]);
    let option = choose(Some(Path::new("cloaca:////o.db?x=1")), &by_variable, &work).unwrap();
    assert_eq!((option.by, option.paths), (ChosenBy::Option, vec![PathBuf::from("/o.db")]));

    make_log(&work.join("b.db"));
    assert!(matches!(choose(None, &by_state, &work), Err(NoLog::Several { paths, .. }) if paths.len() == 2));
}

#[test]
fn without_any_log_it_says_where_it_looked() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = |_: &str| None;
    let error = choose(None, &nothing, directory.path()).unwrap_err();
    assert!(error.to_string().contains(&directory.path().display().to_string()), "{error}");
}
