//! The reader of archives against those of others: GNU tar, bsdtar and Python's tarfile.
//!
//! Archives are made at random, honest and hostile, and given to all four: they get the same tree of them, or refuse them. Where
//! one does otherwise on purpose, [`EXPLAINED`] says so, for one trait of an archive and one reader each; an archive has at most
//! one such trait. A disagreement on what a header means is how files are smuggled past whoever looks at an archive with another
//! program (TARmageddon, CVE-2025-62518, was one on the size of a member).
//!
//! `CRABWRIGHT_ARCHIVES` is the number of archives, `PROPTEST_RNG_SEED` another sequence of them.

mod generate;
mod header;
mod outcome;
mod special;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use generate::{Sample, sample};
use outcome::{Outcome, bsdtar, gnu_tar, ours, python};
use special::Trait;

/// Archives of an ordinary run.
const ARCHIVES: u64 = 500;
/// As many show each explained difference.
const MANY: u64 = 1500;

/// The readers of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Other {
    GnuTar,
    Bsdtar,
    Python,
}

use Other::{Bsdtar, GnuTar, Python};

/// Where another reader does otherwise, and why ours does what it does. BuildKit reads archives with Go's archive/tar, which
/// decides where the others are not of one mind.
const EXPLAINED: &[(Trait, &[Other], &str)] = &[
    (Trait::GlobalRecords, &[GnuTar, Python], "records for the whole archive are ignored, as by containerd and Docker"),
    (
        Trait::TwoRecordHeaders,
        &[Bsdtar, Python],
        "a later extended header replaces an earlier one, as for Go and GNU tar",
    ),
    (Trait::RecordsAndLongName, &[GnuTar, Bsdtar, Python], "GNU's long name counts for more than a record, as for Go"),
    (
        Trait::NameClimbs,
        &[GnuTar, Bsdtar, Python],
        "a name with .. that stays below the root is one, as for containerd",
    ),
    (Trait::ThroughLink, &[GnuTar, Bsdtar, Python], "links on the way are followed inside the root, as in a container"),
    (
        Trait::UnknownKind,
        &[GnuTar, Bsdtar, Python],
        "a kind that means nothing in an image is refused, as by containerd",
    ),
    (Trait::DirectoryWithSize, &[GnuTar, Bsdtar], "a directory has no content whatever its size says, as for Go"),
    (Trait::BadChecksum, &[Bsdtar, Python], "a damaged header is an error, not something to be passed over or the end"),
    (Trait::CutInHeader, &[GnuTar, Python], "part of a header is an error, not the end"),
    (
        Trait::SparseMapWrong,
        &[GnuTar, Bsdtar, Python],
        "a map that overlaps or does not fit its file is refused, as by Go",
    ),
    (Trait::RecordBroken, &[Python], "a record that cannot be read is an error; Python passes some over"),
    (Trait::MissingLinkTarget, &[Python], "a hard link to nothing is refused, which a list does not tell"),
];

fn explanation(other: Other, sample: &Sample) -> Option<&'static str> {
    let (_, _, why) =
        EXPLAINED.iter().find(|(known, others, _)| Some(*known) == sample.special && others.contains(&other))?;
    Some(why)
}

#[test]
fn archives_are_read_as_others_read_them() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let count = number("CRABWRIGHT_ARCHIVES").unwrap_or(ARCHIVES);
    let seed = number("PROPTEST_RNG_SEED").unwrap_or(1);
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("outside"), "untouched").unwrap();

    let samples: Vec<Sample> = (0..count).map(|number| sample(seed.wrapping_mul(1 << 32) + number)).collect();
    let archives = place.path().join("archives");
    std::fs::create_dir(&archives).unwrap();
    for (number, sample) in samples.iter().enumerate() {
        std::fs::write(archives.join(number.to_string()), &sample.bytes).unwrap();
    }
    let of_python = python(&archives, &samples);
    assert_eq!(of_python.len(), samples.len());

    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(sample) = samples.get(number) else { return };
                    check(
                        &place.path().join(format!("trees-{number}")),
                        &archives.join(number.to_string()),
                        sample,
                        |other| match other {
                            Python => Some(of_python[number].clone()),
                            _ => None,
                        },
                        &tally,
                    );
                }
            });
        }
    });
    let Tally { differences, explained, refused } = tally.into_inner().unwrap();
    println!("{count} archives, seed {seed}: {refused} refused by all; explained differences: {explained:?}");
    assert_eq!(std::fs::read_to_string(place.path().join("outside")).unwrap(), "untouched");
    assert!(
        differences.is_empty(),
        "{} differences, the first ones:\n{}",
        differences.len(),
        differences[..differences.len().min(3)].join("\n\n")
    );
    if count >= MANY {
        assert!(refused > 0, "no archive was refused by all");
        // An explanation of nothing explains too much.
        for (special, others, _) in EXPLAINED {
            for other in *others {
                let seen = explained.keys().any(|(known, who)| known == special && who == other);
                assert!(seen, "{other:?} never differs for {special:?}: take it from the table");
            }
        }
    }
}

#[derive(Default)]
struct Tally {
    differences: Vec<String>,
    explained: BTreeMap<(Trait, Other), usize>,
    refused: usize,
}

fn check(
    trees: &Path,
    archive: &Path,
    sample: &Sample,
    known: impl Fn(Other) -> Option<Outcome>,
    tally: &Mutex<Tally>,
) {
    std::fs::create_dir(trees).unwrap();
    let own = ours(&trees.join("own"), sample);
    let mut refused = own == Outcome::Refused;
    for other in [GnuTar, Bsdtar, Python] {
        let theirs = known(other).unwrap_or_else(|| match other {
            GnuTar => gnu_tar(&trees.join("gnu"), archive, sample),
            _ => bsdtar(&trees.join("bsd"), archive, sample),
        });
        refused &= theirs == Outcome::Refused;
        if own.agrees(&theirs, other == Python) {
            continue;
        }
        let mut tally = tally.lock().unwrap();
        match (explanation(other, sample), sample.special) {
            (Some(_), Some(special)) => *tally.explained.entry((special, other)).or_default() += 1,
            _ => tally
                .differences
                .push(format!("{other:?} and ours, on {sample:?}:\n  ours {own:?}\n  theirs {theirs:?}")),
        }
    }
    tally.lock().unwrap().refused += usize::from(refused);
    std::fs::remove_dir_all(trees).unwrap();
}
