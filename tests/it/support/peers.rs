//! The addresses of what `tests/setup` started, and the clients that speak to it.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// The peers of this machine.
pub(crate) struct Peers {
    values: BTreeMap<String, String>,
}

/// The peers, or a panic that says how to get them.
pub(crate) fn peers() -> &'static Peers {
    static PEERS: OnceLock<Peers> = OnceLock::new();
    PEERS.get_or_init(|| {
        let state = std::env::var("CRABWRIGHT_TEST_STATE").unwrap_or_else(|_| "/var/tmp/crabwright-peers".to_owned());
        let path = PathBuf::from(state).join("env");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!(
                "the test peers are not set up ({}: {error}): run `tests/setup` as root, or `make test`",
                path.display()
            )
        });
        let values = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let peers = Peers { values };
        for address in [peers.registry(), peers.registry_with_password()] {
            let reached = address
                .to_socket_addrs()
                .ok()
                .and_then(|mut found| found.next())
                .map(|socket| TcpStream::connect_timeout(&socket, Duration::from_secs(5)));
            assert!(
                matches!(reached, Some(Ok(_))),
                "the test registry {address} does not answer ({reached:?}): run `tests/setup` as root again"
            );
        }
        peers
    })
}

impl Peers {
    fn value(&self, name: &str) -> &str {
        self.values
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing from the peers' env file: run `tests/setup` again"))
    }

    /// Host and port of the registry that lets everyone in, over plain http.
    pub(crate) fn registry(&self) -> &str {
        self.value("CRABWRIGHT_TEST_REGISTRY")
    }

    /// Where [`Self::registry`] keeps one of its repositories.
    pub(crate) fn registry_storage(&self, repository: &str) -> PathBuf {
        let name = repository.strip_prefix(self.registry()).unwrap_or(repository).trim_start_matches('/');
        let state = PathBuf::from(self.value("CRABWRIGHT_TEST_STATE"));
        state.join("registry/docker/registry/v2/repositories").join(name)
    }

    /// Host and port of the registry that asks for a password (basic authentication), over plain http.
    pub(crate) fn registry_with_password(&self) -> &str {
        self.value("CRABWRIGHT_TEST_REGISTRY_AUTH")
    }

    /// Who may enter it.
    pub(crate) fn registry_user(&self) -> &str {
        self.value("CRABWRIGHT_TEST_REGISTRY_USER")
    }

    /// With what.
    pub(crate) fn registry_password(&self) -> &str {
        self.value("CRABWRIGHT_TEST_REGISTRY_PASSWORD")
    }

    /// A Python that knows the schemas of manifests.
    pub(crate) fn python(&self) -> &str {
        self.value("CRABWRIGHT_TEST_PYTHON")
    }

    /// gitlab-ci-local, speaking to the tests' engine.
    pub(crate) fn gitlab_runner(&self) -> Command {
        let mut command = Command::new(self.value("CRABWRIGHT_TEST_GITLAB_RUNNER"));
        command.env("DOCKER_HOST", self.value("CRABWRIGHT_TEST_DOCKER"));
        command
    }

    /// The URL of Amazon's stand-in.
    pub(crate) fn s3(&self) -> &str {
        self.value("CRABWRIGHT_TEST_S3")
    }

    /// The access key of its only user.
    pub(crate) fn s3_key(&self) -> &str {
        self.value("CRABWRIGHT_TEST_S3_KEY")
    }

    /// The secret that belongs to the key.
    pub(crate) fn s3_secret(&self) -> &str {
        self.value("CRABWRIGHT_TEST_S3_SECRET")
    }

    /// The URL of Google's stand-in.
    pub(crate) fn gs(&self) -> &str {
        self.value("CRABWRIGHT_TEST_GS")
    }

    /// The URL of Azure's stand-in.
    pub(crate) fn azure(&self) -> &str {
        self.value("CRABWRIGHT_TEST_AZURE")
    }

    /// Puts a file, which is the next argument, into a bucket.
    pub(crate) fn fill_bucket(&self, service: &str, endpoint: &str, bucket: &str, key: &str) -> Command {
        let mut command = Command::new(self.value("CRABWRIGHT_TEST_BUCKETS_PYTHON"));
        let script = super::program::source_directory().join("tests/buckets.py");
        command.arg(script).args([service, endpoint, bucket, key]);
        command.env("AWS_ACCESS_KEY_ID", self.s3_key()).env("AWS_SECRET_ACCESS_KEY", self.s3_secret());
        command
    }

    /// A directory whose config.json holds the password, as `DOCKER_CONFIG` names it.
    pub(crate) fn docker_config(&self) -> &str {
        self.value("CRABWRIGHT_TEST_DOCKER_CONFIG")
    }

    /// The reference of Debian 12, whose apt works in a container on the host's network.
    pub(crate) fn debian(&self) -> &str {
        self.value("CRABWRIGHT_TEST_DEBIAN")
    }

    /// The reference of the conformance suite's small base image (busybox).
    pub(crate) fn busybox(&self) -> String {
        format!("{}/conformance/base:1", self.registry())
    }

    /// The OCI layout of the conformance suite's base images.
    pub(crate) fn conformance_base(&self) -> &str {
        self.value("CRABWRIGHT_TEST_CONFORMANCE_BASE")
    }

    /// The docker client, speaking to the tests' engine.
    pub(crate) fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", self.value("CRABWRIGHT_TEST_DOCKER")]);
        command
    }

    /// podman with a storage of its own.
    pub(crate) fn podman(&self) -> Command {
        let root = self.value("CRABWRIGHT_TEST_PODMAN_ROOT");
        let mut command = Command::new("podman");
        command.args(["--root", root, "--runroot", &format!("{root}-run")]);
        // No systemd here, and cgroups of either version: cgroupfs and runc work with both.
        command.args(["--cgroup-manager=cgroupfs", "--runtime=runc"]);
        command
    }

    /// A repository of this test run alone: runs side by side on one machine must not see each other's tags.
    pub(crate) fn repository(&self, name: &str) -> String {
        let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        format!("{}/run-{}-{}/{name}", self.registry(), moment.as_millis(), std::process::id())
    }
}
