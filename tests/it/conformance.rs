//! The conformance cases (testdata/conformance), built in every sandbox and compared with the images BuildKit makes, and
//! the cases of our own (testdata/language) for rules of the Dockerfile reference that those leave out.
//!
//! What does not pass yet stands in known-failures.txt with what is missing. A failure that is not listed fails the test,
//! and so does a listed case that passes. A case that yields a wrong image, where it should be built right or refused,
//! needs the mark `wrong-image` besides: nothing wrong may go out unnoticed.
//!
//! `CRABWRIGHT_CONFORMANCE_ONLY` (a regular expression on the names) runs a part. The verdicts of the last run stay in
//! target/conformance; `testdata/conformance/list-failures` makes the list from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde::Deserialize;

use crate::support::peers::peers;
use crate::support::pod::executor_image;
use crate::support::program::source_directory;

/// Cases are dealt out to this many runners.
const SHARDS: usize = 2;

/// A directory of cases.
struct Collection {
    name: &'static str,
    cases: &'static str,
    /// Whether a refusal must say the expected words: those of the recorded cases are another program's.
    strict_errors: bool,
}

const COLLECTIONS: [Collection; 2] = [
    Collection { name: "conformance", cases: "testdata/conformance/cases", strict_errors: false },
    Collection { name: "language", cases: "testdata/language", strict_errors: true },
];

/// What run.py says of one case.
#[derive(Debug, Deserialize)]
struct Verdict {
    verdict: String,
    good: bool,
    found: Vec<String>,
}

/// Why a case is expected to fail.
struct KnownFailure {
    sandboxes: String,
    missing: String,
}

impl KnownFailure {
    fn concerns(&self, sandbox: &str) -> bool {
        self.sandboxes == "all" || self.sandboxes.split(',').any(|name| name == sandbox)
    }

    fn admits_wrong_image(&self) -> bool {
        self.missing.split_whitespace().any(|word| word == "wrong-image")
    }
}

#[test]
fn own_root() {
    check("own-root", &in_pod(&[], "own-root"));
}

#[test]
fn user_namespace() {
    check("user-namespace", &in_pod(&["--security-opt=seccomp=unconfined"], "namespace"));
}

#[test]
fn namespace() {
    let command = format!(
        "{} --isolation=namespace --work-dir {{work}}/build --context dir://{{context}} --dockerfile {{dockerfile}} \
         --destination conformance/{{name}} --no-push --oci-layout-path {{destination_path}} --insecure-pull {{args}}",
        env!("CARGO_BIN_EXE_crabwright")
    );
    check("namespace", &command);
}

/// The command line of a build in a pod. Secrets and named contexts are below the case's work directory, which has the same
/// name in the pod; the layout is written below the executor's own directory, which no RUN sees as part of its image.
fn in_pod(options: &[&str], isolation: &str) -> String {
    let engine = peers().docker();
    let mut words = vec![engine.get_program().to_string_lossy().into_owned()];
    words.extend(engine.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.extend(["run", "--rm", "--network=host"].map(str::to_owned));
    words.extend(options.iter().map(|&word| word.to_owned()));
    format!(
        "{} -v {{context}}:/workspace:ro -v {{dockerfile_dir}}:/dockerfile:ro -v {{work}}:{{work}}:ro -v OUT:/kaniko/out {} \
         --isolation={isolation} --context dir:///workspace --dockerfile /dockerfile/{{dockerfile_name}} \
         --destination conformance/{{name}} --no-push --oci-layout-path /kaniko/out/{{name}} --insecure-pull {{args}}",
        words.join(" "),
        executor_image()
    )
}

/// testdata/language/COVERAGE.md names cases by their first three characters.
#[test]
fn the_coverage_table_names_cases_that_exist_and_all_of_our_own() {
    let [recorded, own] = COLLECTIONS.map(|collection| {
        let entries = std::fs::read_dir(source_directory().join(collection.cases)).unwrap().map(|entry| entry.unwrap());
        let directories = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        directories.map(|entry| entry.file_name().to_str().unwrap()[..3].to_owned()).collect::<BTreeSet<_>>()
    });
    let table = std::fs::read_to_string(source_directory().join("testdata/language/COVERAGE.md")).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit_once("| "));
    let number = |word: &&str| word.len() == 3 && word[1..].bytes().all(|byte| byte.is_ascii_digit());
    let named: BTreeSet<_> = rows.flat_map(|(_, cases)| cases.split(' ')).filter(number).map(str::to_owned).collect();
    let unknown: Vec<_> = named.iter().filter(|name| !recorded.contains(*name) && !own.contains(*name)).collect();
    assert!(unknown.is_empty(), "no such cases: {unknown:?}");
    let missing: Vec<_> = own.difference(&named).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

/// Builds all cases with a command line and compares the verdicts with the list.
#[track_caller]
fn check(sandbox: &str, command: &str) {
    let known = known_failures();
    let place = source_directory().join("target/conformance").join(sandbox);
    if place.exists() {
        std::fs::remove_dir_all(&place).unwrap();
    }
    std::fs::create_dir_all(&place).unwrap();
    let only = std::env::var("CRABWRIGHT_CONFORMANCE_ONLY").unwrap_or_else(|_| ".".to_owned());
    let mut verdicts: BTreeMap<String, Verdict> = BTreeMap::new();
    for collection in &COLLECTIONS {
        let runners: Vec<(PathBuf, Child)> = (0..SHARDS)
            .map(|shard| start_runner(&place, collection, shard, &dealt_out(&only, shard), command))
            .collect();
        for (out, mut runner) in runners {
            runner.wait().unwrap();
            let text = std::fs::read_to_string(&out).unwrap_or_else(|error| {
                let log = std::fs::read_to_string(out.with_extension("log")).unwrap_or_default();
                panic!("run.py came to no verdicts ({error}):\n{log}")
            });
            for (name, verdict) in serde_json::from_str::<BTreeMap<String, Verdict>>(&text).unwrap() {
                assert!(verdicts.insert(name.clone(), verdict).is_none(), "two cases are called {name}");
            }
        }
    }
    let passed = verdicts.values().filter(|verdict| verdict.good).count();
    println!("{sandbox}: {passed} of {} conformance cases pass", verdicts.len());

    let mut complaints = String::new();
    for (name, verdict) in &verdicts {
        let listed = known.get(name).filter(|failure| failure.concerns(sandbox));
        let complaint = match (verdict.good, listed) {
            (true, None) => continue,
            (true, Some(_)) => "passes now: remove it from known-failures.txt".to_owned(),
            (false, Some(failure)) if !is_wrong_image(verdict) || failure.admits_wrong_image() => continue,
            (false, Some(_)) => format!("{}: a wrong image, where only a refusal is listed", verdict.verdict),
            (false, None) => verdict.verdict.clone(),
        };
        writeln!(complaints, "{name}: {complaint}").unwrap();
        for line in verdict.found.iter().take(4) {
            writeln!(complaints, "    {line}").unwrap();
        }
    }
    assert!(complaints.is_empty(), "{sandbox}, logs in {}:\n{complaints}", place.display());
    assert!(passed * 2 >= verdicts.len(), "{sandbox}: fewer than half of the cases pass");
}

/// Whether an image came out that should not be.
fn is_wrong_image(verdict: &Verdict) -> bool {
    matches!(verdict.verdict.as_str(), "differs" | "accepts")
}

/// Names wanted, of this shard: the last digit of the number deals them out evenly.
fn dealt_out(only: &str, shard: usize) -> String {
    let digits: String = (0..10).filter(|digit| digit % SHARDS == shard).map(|digit| digit.to_string()).collect();
    format!("^(?=..[{digits}])(?=.*?(?:{only}))")
}

/// Starts run.py on a part of the cases; its verdicts come to the path returned.
fn start_runner(place: &Path, collection: &Collection, shard: usize, only: &str, command: &str) -> (PathBuf, Child) {
    let images = place.join(format!("images-{}-{shard}", collection.name));
    std::fs::create_dir(&images).unwrap();
    let verdicts = place.join(format!("verdicts-{}-{shard}.json", collection.name));
    let log = std::fs::File::create(verdicts.with_extension("log")).unwrap();
    let child = Command::new("python3")
        .arg(source_directory().join("testdata/conformance/run.py"))
        .arg("--rewrite-flag=--reproducible")
        .args(["--history", "--layers", "--no-push", "--platform-flag=--custom-platform"])
        .args(["--only", only])
        .arg("--cases")
        .arg(source_directory().join(collection.cases))
        .args(collection.strict_errors.then_some("--strict-errors"))
        .args(["--registry", &format!("{}/conformance", peers().registry())])
        .args(["--base-layout", peers().conformance_base()])
        .args(["--destination", &format!("oci:{}/{{name}}", images.display())])
        .args(["--command", &command.replace("OUT", &images.display().to_string())])
        .arg("--logs")
        .arg(place.join("logs"))
        .arg("--out")
        .arg(&verdicts)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    (verdicts, child)
}

/// known-failures.txt: a case's name, the sandboxes (`all`, or names with commas between), what is missing.
fn known_failures() -> BTreeMap<String, KnownFailure> {
    let path = source_directory().join("testdata/conformance/known-failures.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let (Some(name), Some(sandboxes), Some(missing)) = (words.next(), words.next(), words.next()) else {
                panic!("known-failures.txt: not `name sandboxes what-is-missing`: {line}");
            };
            let exists = COLLECTIONS.iter().any(|set| source_directory().join(set.cases).join(name).is_dir());
            assert!(exists, "known-failures.txt: no such case: {name}");
            (name.to_owned(), KnownFailure { sandboxes: sandboxes.to_owned(), missing: missing.to_owned() })
        })
        .collect()
}
