//! System calls of an exchange made to fail in a real container, by strace, and the executor killed at them: afterwards, or after the
//! next start, the container's files are as they were.
//!
//! `src/sandbox/own_root/faults.rs` goes through every point in a small tree; here it is the kernel's own rename on an overlay,
//! real mounts, and a real death. A test run looks at some of the points; `make faults` at all (`CRABWRIGHT_FAULTS=all`), or at as many
//! as FAULTS says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::own_root::FUNCTIONS;
use crate::support::peers::peers;
use crate::support::pod::debug_image;
use crate::support::program::{Ended, Workspace, run, stdout};

/// What `src/sandbox/own_root` calls, as the kernel knows it.
const CALLS: &str = "mkdir,mkdirat,openat,rename,renameat,renameat2,unlink,unlinkat,rmdir,symlink,symlinkat,readlinkat,newfstatat,statx,\
                     getdents64,pwrite64,ftruncate,chmod,fchmod,fchmodat,fchown,fchownat,utimensat,flistxattr,fgetxattr,fsetxattr,\
                     fremovexattr,lseek";

const KINDS: [&str; 5] = ["error=EIO", "error=ENOSPC", "error=EXDEV", "error=EMFILE", "signal=KILL"];

/// Points that a test run tries.
const SOME: usize = 24;
/// Containers at a time: they wait more than they work.
const AT_ONCE: usize = 3;

/// strace with the libraries it needs, for a container that has none.
struct Tracer {
    directory: tempfile::TempDir,
}

impl Tracer {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let strace = stdout(Command::new("sh").args(["-c", "command -v strace"]));
        let copy = |from: &Path, name: &str| std::fs::copy(from, directory.path().join(name)).map(drop).unwrap();
        copy(Path::new(&strace), "strace");
        for line in stdout(Command::new("ldd").arg(&strace)).lines() {
            let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from) else {
                continue;
            };
            let name = library.file_name().unwrap().to_str().unwrap();
            copy(&library, if name.starts_with("ld-") { "ld.so" } else { name });
        }
        Self { directory }
    }

    /// A build under strace, and after it another start; `options` are strace's.
    fn build(&self, workspace: &Workspace, out: &Path, options: &str) -> Ended {
        let script = format!(
            "{FUNCTIONS}
             trace() {{ /strace/ld.so --library-path /strace /strace/strace -f -qq -s 64 -o /out/trace {options} -- \"$@\"; }}
             trace /kaniko/executor --insecure --insecure-pull --no-push --reproducible --build-arg SOURCE_DATE_EPOCH=1 \
                 --digest-file /out/digest --context=dir:///ctx -v warn
             echo ended with $?
             /kaniko/executor --no-push --context=dir:///ctx --dockerfile=Dockerfile.next && restored"
        );
        run(peers()
            .docker()
            .args(["run", "--rm", "--network=host", "--cap-add=SYS_PTRACE"])
            .arg(format!("--volume={}:/workspace:ro", workspace.context().display()))
            .arg(format!("--volume={}:/strace:ro", self.directory.path().display()))
            .arg(format!("--volume={}:/opt/pods/volume", workspace.out().display()))
            .arg(format!("--volume={}:/out", out.display()))
            .args(["--entrypoint=", debug_image(), "sh", "-c", &script]))
    }
}

/// One call of the thread that exchanges: its name, and the number it has among the calls of that name in its thread.
type Point = (String, usize);

/// The calls from the making of the state directory to its removal.
fn points(trace: &str) -> Vec<Point> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut inside, mut found) = (None, Vec::new());
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ').map(|(thread, call)| (thread, call.trim_start())) else {
            continue;
        };
        let Some((name, arguments)) = call.split_once('(').filter(|(name, _)| !name.contains(' ')) else { continue };
        let count = counts.entry((thread, name)).or_default();
        *count += 1;
        if name == "mkdirat" && arguments.contains("\".crabwright\"") {
            inside = Some(thread);
        }
        if inside == Some(thread) {
            found.push((name.to_owned(), *count));
            if name == "unlinkat" && arguments.contains("\".crabwright\"") {
                inside = None;
            }
        }
    }
    found
}

#[test]
fn a_call_that_fails_or_kills_leaves_the_container_as_it_was() {
    let base = peers().busybox();
    // Memory and a cache: both kinds of mounts.
    let workspace = Workspace::new(&format!(
        "FROM {base}\nRUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/opt/memory \\\n\
         echo x > /etc/new && echo y > /opt/pods/new && echo changed > /etc/hosts && rm -rf /var/spool /home && mkdir -p /srv/deep && echo z > /c/kept\n"
    ));
    workspace.file("Dockerfile.next", "FROM scratch\nCOPY Dockerfile /\n");
    let tracer = Tracer::new();
    let out = tempfile::tempdir().unwrap();
    let ended = tracer.build(&workspace, out.path(), &format!("-e trace={CALLS}")).success();
    ended.says("ended with 0").says("everything is-back");
    let digest = std::fs::read_to_string(out.path().join("digest")).unwrap();
    let points = points(&std::fs::read_to_string(out.path().join("trace")).unwrap());
    assert!(points.len() > 100, "{points:?}");

    let all: Vec<(&Point, &str)> = points.iter().flat_map(|point| KINDS.map(|kind| (point, kind))).collect();
    let wanted = match std::env::var("CRABWRIGHT_FAULTS") {
        Ok(text) if text == "all" => all.len(),
        Ok(text) => text.parse().expect("CRABWRIGHT_FAULTS is all or a number"),
        Err(_) => SOME,
    };
    // A step that shares no factor with the kinds, so that each has its turn.
    let step = if wanted >= all.len() { 1 } else { (all.len() / wanted).max(1) / KINDS.len() * KINDS.len() + 1 };
    let chosen: Vec<_> = all.into_iter().step_by(step).collect();
    println!("{} points, {} kinds, {} tried", points.len(), KINDS.len(), chosen.len());
    let queue = Mutex::new(chosen.into_iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(((name, number), kind)) = { queue.lock().unwrap().next() } {
                    let out = tempfile::tempdir().unwrap();
                    let options = format!("-e trace={name} -e inject={name}:{kind}:when={number}");
                    let ended = tracer.build(&workspace, out.path(), &options);
                    let is_clean = ended.code == 0 && ended.said.contains("everything is-back");
                    // What can be gone round is gone round; then the image is right, too.
                    let is_silent = ended.said.contains("ended with 0\n");
                    let built = std::fs::read_to_string(out.path().join("digest")).unwrap_or_default();
                    if !is_clean || (is_silent && built != digest) {
                        failures.lock().unwrap().push(format!("{kind} at {name} {number}:\n{}", ended.said));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} are not clean:\n{}", failures.len(), failures.join("\n"));
}
