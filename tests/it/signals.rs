//! A build that is told to stop (SIGTERM, as Kubernetes and CI systems do) ends its children, leaves no half-written tag,
//! says what it left, and exits with 143.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Ended, Workspace, run};
use crate::support::web::{Answer, Web};

const TERMINATED: i32 = 143;
const NOTHING_LEFT: &str = "nothing of this build is left";

/// A RUN that starts a process in the background, says so, and sleeps.
fn sleeping(marker: u32) -> Workspace {
    let script = format!("sleep {marker} & echo now-'sleeping'; exec sleep {marker}");
    Workspace::new(&format!("FROM {}\nRUN {script}\n", peers().busybox()))
}

#[test]
fn terminated_during_a_run_in_own_root() {
    terminate_pod_during_run(31_337_001, |pod| pod);
}

/// The second signal comes while the first one's work is under way: the container's own files must be back all the same.
#[test]
fn a_second_signal_waits_until_own_root_has_put_the_files_back() {
    let workspace = sleeping(31_337_010);
    let arguments = ["--context=dir:///workspace", "--insecure-pull", "--no-push"];
    for signals in [&["TERM"][..], &["TERM", "TERM"], &["INT", "TERM"]] {
        let pod = Pod::new().mount(&workspace.context(), "/workspace:ro").start(&arguments);
        pod.wait_for("now-sleeping", Duration::from_secs(60));
        pod.signals(signals);
        let ended = pod.wait(Duration::from_secs(10));
        assert!([130, TERMINATED].contains(&ended.code), "exit code {}:\n{}", ended.code, ended.said);
        let changed = pod.changed_files();
        assert!(changed.iter().all(|path| path.starts_with("/kaniko")), "{signals:?} left {changed:?}");
        assert!(!changed.iter().any(|path| path.contains("crabwright")), "{signals:?} left {changed:?}");
    }
}

/// Nobody wants what other stages do once one has failed.
#[test]
fn a_command_that_fails_ends_those_of_other_stages() {
    let marker = 31_337_013;
    let base = peers().busybox();
    // `/begun` lets `/wait` go.
    let (begun, waiting) = std::sync::mpsc::channel();
    let (begun, waiting) = (Mutex::new(begun), Mutex::new(waiting));
    let web = Web::serve(move |asked, _before| {
        match asked.path.as_str() {
            "/begun" => begun.lock().unwrap().send(()).unwrap(),
            _ => waiting.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap(),
        }
        Answer::ok("")
    });
    let workspace = Workspace::new(&format!(
        "FROM {base} AS slow\n\
         RUN busybox wget -q -O /answer {} && exec sleep {marker}\n\
         FROM {base} AS broken\n\
         RUN busybox wget -q -O /answer {} && exit 3\n\
         FROM scratch\n\
         COPY --from=slow /answer /slow\n\
         COPY --from=broken /answer /broken\n",
        web.url("/begun"),
        web.url("/wait"),
    ));
    let ended = run(workspace.build().args(["--isolation=namespace", "--no-push"]));
    let ended = ended.refused(3, &["exit code: 3", "[slow 2/2] CANCELED"]);
    assert!(!ended.said.contains("interrupted"), "{}", ended.said);
    assert_eq!(processes_with(&marker.to_string()), Vec::<String>::new());
}

/// timeout(1) signals the program, and then its process group: the same request twice, not a second one.
#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let marker = 31_337_012;
    let workspace = sleeping(marker);
    let build = workspace.build();
    let mut timeout = Command::new("timeout");
    timeout.args(["--preserve-status", "5"]).arg(build.get_program()).args(build.get_args());
    timeout.args(["--isolation=namespace", "--no-push"]);
    run(&mut timeout).refused(TERMINATED, &["SIGTERM", NOTHING_LEFT, "now-sleeping"]);
    assert_eq!(std::fs::read_dir(workspace.out().join("work")).unwrap().count(), 0);
    assert_eq!(processes_with(&marker.to_string()), Vec::<String>::new());
}

/// Builds on this machine share a work directory; what a killed one left goes with the next one, and nothing else does.
#[test]
fn the_files_of_a_killed_build_are_removed_by_the_next() {
    let marker = 31_337_011;
    let workspace = sleeping(marker);
    let work = workspace.out().join("work");
    let entries = || std::fs::read_dir(&work).unwrap().count();
    let start = || {
        let mut command = workspace.build();
        let child = command.args(["--isolation=namespace", "--no-push"]).stdout(Stdio::null()).stderr(Stdio::null());
        child.spawn().unwrap()
    };
    let sleeping = |count: usize| wait_until(|| processes_with(&marker.to_string()).len() == count);
    let mut first = start();
    sleeping(2);
    let mut second = start();
    sleeping(4);
    assert_eq!(entries(), 2, "a directory for each");
    first.kill().unwrap();
    first.wait().unwrap();
    sleeping(2);
    assert_eq!(entries(), 2, "nobody can clean up after SIGKILL");
    let mut third = start();
    sleeping(4);
    assert_eq!(entries(), 2, "the killed one's is gone");
    for child in [&mut second, &mut third] {
        run(Command::new("kill").arg(child.id().to_string())).success();
        assert_eq!(child.wait().unwrap().code(), Some(TERMINATED));
    }
    assert_eq!(entries(), 0);
    sleeping(0);
}

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "it did not come to that in 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn terminated_during_a_run_in_a_user_namespace() {
    terminate_pod_during_run(31_337_002, Pod::without_seccomp);
}

fn terminate_pod_during_run(marker: u32, change: fn(Pod) -> Pod) {
    let workspace = sleeping(marker);
    let destination = format!("{}:1", peers().repository("stopped"));
    let pod = change(Pod::for_workspace(&workspace)).start(&[
        "--context=dir:///workspace",
        "--insecure",
        "--insecure-pull",
        "--destination",
        &destination,
    ]);
    pod.wait_for("now-sleeping", Duration::from_secs(60));
    pod.signal("TERM");
    let ended = pod.wait(Duration::from_secs(10));
    ended.refused(TERMINATED, &["SIGTERM", NOTHING_LEFT]);
    assert!(!images::exists(&destination));
    assert_eq!(processes_with(&marker.to_string()), Vec::<String>::new());
}

/// Outside a container nothing ends the children but the program itself.
#[test]
fn terminated_during_a_run_on_this_machine() {
    let marker = 31_337_003;
    let workspace = sleeping(marker);
    let mut command = workspace.build();
    command.args(["--isolation=namespace", "--no-push"]);
    let ended = terminate_when(command, || processes_with(&marker.to_string()).len() >= 2);
    ended.refused(TERMINATED, &["SIGTERM", NOTHING_LEFT]);
    assert_eq!(processes_with(&marker.to_string()), Vec::<String>::new());
}

#[test]
fn terminated_during_a_push() {
    let workspace = Workspace::new("FROM scratch\nCOPY large /large\n");
    let mut large = Vec::with_capacity(64 << 20);
    std::fs::File::open("/dev/urandom").unwrap().take(64 << 20).read_to_end(&mut large).unwrap();
    std::fs::write(workspace.context().join("large"), large).unwrap();

    let gate = Gate::open(8 << 20);
    let repository = peers().repository("half");
    let through_gate = repository.replacen(peers().registry(), &gate.address, 1);
    let mut command = workspace.build();
    command.arg(format!("--destination={through_gate}:1"));
    let ended = terminate_when(command, || gate.sent.load(Ordering::Relaxed) >= gate.limit);
    ended.refused(TERMINATED, &["SIGTERM", NOTHING_LEFT]);
    assert!(!images::exists(&format!("{repository}:1")), "a tag was written for half an image");
}

/// Starts a command, sends SIGTERM once the condition holds, and waits for its end.
#[track_caller]
fn terminate_when(mut command: Command, condition: impl Fn() -> bool) -> Ended {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let number = child.id().to_string();
    let output = std::thread::spawn(move || child.wait_with_output());
    let start = Instant::now();
    let mut signalled = None;
    while !output.is_finished() {
        if signalled.is_none() && condition() {
            run(Command::new("kill").args(["-TERM", &number])).success();
            signalled = Some(Instant::now());
        }
        let late = signalled
            .map_or(start.elapsed() > Duration::from_secs(120), |at: Instant| at.elapsed() > Duration::from_secs(10));
        if late {
            run(Command::new("kill").args(["-KILL", &number])).success();
            panic!(
                "{}",
                if signalled.is_some() { "still running 10 s after SIGTERM" } else { "never came to the point" }
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = output.join().unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let ended = Ended { code: output.status.code().unwrap_or(-1), said: String::from_utf8_lossy(&said).into_owned() };
    assert!(signalled.is_some(), "ended before it came to the point:\n{}", ended.said);
    ended
}

/// Command lines on this machine that hold a word, containers' processes included.
fn processes_with(word: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let lines = entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    let words = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    words.filter(|line| line.starts_with("sleep") && line.contains(word)).collect()
}

/// A door before the registry that stays open for a number of bytes, then lets nothing more in and closes nothing.
struct Gate {
    address: String,
    limit: u64,
    sent: Arc<AtomicU64>,
}

impl Gate {
    fn open(limit: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(peers().registry()).unwrap();
                let (back, answer) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || pass(client, server, &counter, limit));
                std::thread::spawn(move || pass(answer, back, &AtomicU64::new(0), u64::MAX));
            }
        });
        Self { address, limit, sent }
    }
}

/// Passes bytes on until the limit is reached, then holds the connection open without reading.
fn pass(mut from: TcpStream, mut to: TcpStream, counter: &AtomicU64, limit: u64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if counter.fetch_add(count as u64, Ordering::Relaxed) >= limit {
            std::thread::sleep(Duration::from_secs(60));
            return;
        }
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
