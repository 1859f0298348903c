//! SSH agents as OpenSSH's own programs find them: the keys of files, an agent of the machine, and what a RUN may do.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crabwright::diag::with_causes;
use crabwright::ssh::{Agents, SshSource};

use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Workspace, run};

struct Keys {
    directory: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn make(&self, name: &str, options: &[&str]) -> PathBuf {
        let path = self.path(name);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-C", name, "-f"]).arg(&path).args(options);
        if !options.contains(&"-N") {
            command.args(["-N", ""]);
        }
        run(&mut command).success();
        path
    }
}

/// Agents that listen as long as this lives.
struct Listening {
    runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

impl Listening {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, directory: tempfile::tempdir().unwrap() }
    }

    fn socket(&self, flag: &str) -> Result<PathBuf, String> {
        let source = SshSource::parse(flag, &|_| None).map_err(|error| error.to_string())?;
        // deeper than the name of a socket may be long
        let directory = self.directory.path().join("d".repeat(120));
        let agents =
            Agents::new(&[source], directory, self.runtime.handle().clone()).map_err(|error| with_causes(&error))?;
        Ok(agents.socket(flag.split('=').next().unwrap()).map_err(|error| with_causes(&error))?.expect("an agent"))
    }
}

/// The programs of OpenSSH want a short name.
fn short(socket: &Path, keys: &Keys) -> PathBuf {
    let link = keys.path("socket");
    std::os::unix::fs::symlink(socket, &link).unwrap();
    link
}

fn ssh_add(socket: &Path, arguments: &[&str]) -> crate::support::program::Ended {
    run(Command::new("ssh-add").env("SSH_AUTH_SOCK", socket).args(arguments))
}

/// Has the agent sign, and checks the signature with the public key alone.
fn signs(socket: &Path, keys: &Keys, name: &str) {
    let message = keys.path("message");
    std::fs::write(&message, "what is signed").unwrap();
    let public = keys.path(&format!("{name}.pub"));
    let lone = keys.path("lone.pub");
    std::fs::copy(&public, &lone).unwrap();
    let mut sign = Command::new("ssh-keygen");
    sign.env("SSH_AUTH_SOCK", socket).args(["-Y", "sign", "-n", "test", "-f"]).arg(&lone).arg(&message);
    run(&mut sign).success();
    let signers = keys.path("signers");
    std::fs::write(&signers, format!("me {}", std::fs::read_to_string(&public).unwrap())).unwrap();
    let mut verify = Command::new("ssh-keygen");
    verify.args(["-Y", "verify", "-n", "test", "-I", "me", "-f"]).arg(&signers).arg("-s");
    verify.arg(keys.path("message.sig")).stdin(std::fs::File::open(&message).unwrap());
    run(&mut verify).success();
    std::fs::remove_file(keys.path("message.sig")).unwrap();
}

#[test]
fn keys_of_every_kind_are_listed_and_sign() {
    let keys = Keys::new();
    let kinds: [(&str, &[&str]); 5] = [
        ("ed25519", &["-t", "ed25519"]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
    ];
    let paths: Vec<String> =
        kinds.iter().map(|(name, options)| keys.make(name, options).display().to_string()).collect();
    let listening = Listening::new();
    let socket = listening.socket(&format!("default={}", paths.join(","))).unwrap();
    let socket = short(&socket, &keys);
    let listed = ssh_add(&socket, &["-l"]).success().said;
    for (name, _) in kinds {
        assert!(listed.contains(name), "{name}: {listed}");
        signs(&socket, &keys, name);
    }
    // nothing but reading and signing
    let other = keys.make("other", &["-t", "ed25519"]);
    assert_ne!(ssh_add(&socket, &[&other.display().to_string()]).code, 0);
    assert_ne!(ssh_add(&socket, &["-D"]).code, 0);
    assert_eq!(ssh_add(&socket, &["-l"]).success().said, listed);
}

const SHORT: [&str; 3] = ["p256-short", "p384-short", "p521-short"];

fn copy_short(keys: &Keys) -> Vec<String> {
    let copy = |name: &&str| {
        std::fs::copy(format!("testdata/ssh/{name}.pub"), keys.path(&format!("{name}.pub"))).unwrap();
        let key = keys.path(name);
        std::fs::copy(format!("testdata/ssh/{name}"), &key).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        key.display().to_string()
    };
    SHORT.iter().map(copy).collect()
}

/// The numbers in a signature are short by chance, too: of this many some are.
fn sign_often(socket: &Path, keys: &Keys) {
    for name in SHORT {
        (0..12).for_each(|_| signs(socket, keys, name));
    }
}

#[test]
fn ecdsa_keys_with_short_numbers_sign() {
    let keys = Keys::new();
    let paths = copy_short(&keys);
    let listening = Listening::new();
    let socket = listening.socket(&format!("default={}", paths.join(","))).unwrap();
    sign_often(&short(&socket, &keys), &keys);
}

/// OpenSSH's agent, ended with the test.
struct MachineAgent(Child);

impl Drop for MachineAgent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn machine_agent(keys: &Keys) -> (MachineAgent, PathBuf) {
    let socket = keys.path("machine");
    let agent = MachineAgent(Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).spawn().unwrap());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !socket.exists() {
        assert!(std::time::Instant::now() < end, "ssh-agent does not start");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    (agent, socket)
}

#[test]
fn an_agent_of_the_machine_is_forwarded_for_reading_and_signing() {
    let keys = Keys::new();
    let (_agent, machine) = machine_agent(&keys);
    let key = keys.make("mine", &["-t", "ed25519"]);
    ssh_add(&machine, &["-q", &key.display().to_string()]).success();
    let listening = Listening::new();
    let socket = short(&listening.socket(&format!("work={}", machine.display())).unwrap(), &keys);
    assert!(ssh_add(&socket, &["-l"]).success().said.contains("mine"));
    signs(&socket, &keys, "mine");
    for path in copy_short(&keys) {
        ssh_add(&machine, &["-q", &path]).success();
    }
    sign_often(&socket, &keys);
    assert_ne!(ssh_add(&socket, &["-D"]).code, 0, "a command took the keys away");
    assert!(ssh_add(&machine, &["-l"]).success().said.contains("mine"));

    std::fs::remove_file(keys.path("socket")).unwrap();
    let listening = Listening::new();
    let raw = short(&listening.socket(&format!("work={},raw=true", machine.display())).unwrap(), &keys);
    ssh_add(&raw, &["-D"]).success();
    assert_ne!(ssh_add(&machine, &["-l"]).code, 0, "raw passes everything on");
}

#[test]
fn keys_that_cannot_be_used_are_told() {
    let keys = Keys::new();
    let locked = keys.make("locked", &["-t", "ed25519", "-N", "a passphrase"]);
    let old = keys.make("old", &["-t", "rsa", "-b", "2048", "-m", "PEM"]);
    let (_agent, machine) = machine_agent(&keys);
    let refused = |flag: String| Listening::new().socket(&flag).unwrap_err();
    assert!(refused(format!("a={}", locked.display())).contains("passphrase"));
    assert!(refused(format!("a={}", old.display())).contains("ssh-keygen -p"));
    assert!(refused("a=/no/such/key".to_owned()).contains("/no/such/key"));
    assert!(refused(format!("a={},{}", old.display(), machine.display())).contains("old"));
    assert!(refused(format!("a={},raw=true", old.display())).contains("raw=true"));
}

const CLIENT: &str = "FROM {debian}
RUN apt-get update && apt-get install -y --no-install-recommends openssh-client
";

const SSH_ADD: &str = "FROM {client}
RUN --mount=type=ssh ssh-add -l && stat -c 'socket %a %u' $SSH_AUTH_SOCK
RUN --mount=type=ssh,id=second,target=/agent,mode=0666,uid=33,required ssh-add -l && stat -c 'socket %a %u' /agent
RUN --mount=type=ssh,id=absent echo \"agent: [$SSH_AUTH_SOCK]\"; ls /run/buildkit /agent 2>&1 || echo 'no trace'
";

#[test]
fn commands_use_agents_in_every_sandbox() {
    let keys = Keys::new();
    let (first, second) = (keys.make("first", &["-t", "ed25519"]), keys.make("second", &["-t", "rsa", "-b", "2048"]));
    let client = format!("{}:1", peers().repository("ssh-client"));
    let workspace = Workspace::new(&CLIENT.replace("{debian}", peers().debian()));
    run(workspace.build().arg(format!("--destination={client}"))).success();
    let workspace = Workspace::new(&SSH_ADD.replace("{client}", &client));
    let check = |said: &str| {
        for words in ["first (ED25519)", "socket 600 0", "second (RSA)", "socket 666 33", "agent: []", "no trace"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        for key in [&first, &second] {
            let text = std::fs::read_to_string(key).unwrap();
            let line = text.lines().nth(1).unwrap();
            assert!(!said.contains(line), "a key is in the log");
        }
    };
    let here = run(workspace
        .build()
        .args(["--no-push", "--verbosity=trace"])
        .args([format!("--ssh=default={}", first.display()), format!("--ssh=second={}", second.display())]));
    check(&here.success().said);
    let arguments = [
        "--context=dir:///workspace",
        "--no-push",
        "--insecure-pull",
        "--verbosity=trace",
        "--ssh=default=/keys/first",
        "--ssh=second=/keys/second",
    ];
    let pod = || Pod::new().mount(&workspace.context(), "/workspace:ro").mount(keys.directory.path(), "/keys:ro");
    check(&pod().run(&arguments).success().said);
    check(&pod().without_seccomp().run(&arguments).success().said);
}

#[test]
fn an_agent_that_is_required_and_not_given_is_told_before_anything_runs() {
    let base = peers().busybox();
    let workspace = Workspace::new(&format!("FROM {base}\nRUN echo begun\nRUN --mount=type=ssh,required true\n"));
    let ended = run(workspace.build().arg("--no-push"))
        .refused(1, &["Dockerfile:3", "SSH agent default: not found", "--ssh default"]);
    assert!(!ended.said.contains("begun"), "{}", ended.said);
}
