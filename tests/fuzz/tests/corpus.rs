//! Runs each input of the corpus through its target: a regression test for everything that ever broke a decoder.

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use cloacina_fuzz::{TARGETS, run};

/// No input takes this long, even on the slowest machine: it hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Mutations per input. `FUZZ_MUTATIONS` sets another number, for a longer search without libFuzzer.
const MUTATIONS: u64 = 40;

/// Returns mutations of an input, the same in every run: truncated, extended, with bits flipped or bytes set to boundary values.
fn mutations(bytes: &[u8], usual: u64) -> impl Iterator<Item = Vec<u8>> {
    let count = std::env::var("FUZZ_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    (0..count).map(move |number| {
        let mut dice = number;
        let mut roll = |below: usize| {
            // SplitMix64.
            dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % below.max(1)
        };
        let mut mutated = bytes.to_vec();
        for _ in 0..=roll(3) {
            let place = roll(mutated.len());
            match roll(6) {
                0 => mutated.truncate(place),
                1 => mutated.splice(place..place, bytes.iter().copied().take(8)).for_each(drop),
                2 => mutated.extend([0, 255, 0, 1]),
                _ if mutated.is_empty() => mutated.push(0),
                3 => mutated[place] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][roll(6)],
                4 => mutated[place..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                _ => mutated[place] ^= 1 << roll(8),
            }
        }
        mutated
    })
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let mut inputs: Vec<_> = fs::read_dir(corpus().join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

/// The other test allocates a few kilobytes meanwhile, far below the limit.
#[test]
fn no_input_of_the_corpus_breaks_a_decoder_takes_much_memory_or_hangs() {
    let (done, waiting) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let mut count = 0;
        for (target, _) in TARGETS {
            for input in inputs(target) {
                let bytes = fs::read(&input).unwrap();
                done.send(input).unwrap();
                run(target, &bytes);
                mutations(&bytes, MUTATIONS).for_each(|mutated| run(target, &mutated));
                count += 1;
            }
        }
        count
    });
    let mut last = PathBuf::new();
    loop {
        match waiting.recv_timeout(HANGS) {
            Ok(input) => last = input,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{} hangs", last.display()),
        }
    }
    let count = worker.join().unwrap_or_else(|_| panic!("{} breaks its target", last.display()));
    assert!(count > TARGETS.len() * 3, "only {count} inputs were found");
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let folders = fs::read_dir(corpus()).unwrap().count();
    assert_eq!(folders, TARGETS.len(), "each folder of the corpus belongs to a target");
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    for (target, _) in TARGETS {
        assert!(!inputs(target).is_empty(), "{target} has no corpus");
        let program = format!("fuzz_targets/{target}.rs");
        assert!(manifest.contains(&program), "{program} is not built");
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&program)).unwrap();
        assert!(source.contains(&format!("run(\"{target}\"")), "{program} runs another target");
    }
}
