//! Debian's registry in every set-up that pipelines meet: TLS by a private authority, client certificates, passwords, tokens, behind
//! nginx, as a pull-through mirror. Each test starts its own and ends it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::peers::peers;
use crate::support::program::{Ended, Workspace, crabwright, run};

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(mut command: Command, port: u16) -> Server {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Server { child, address: format!("127.0.0.1:{port}") };
    for _ in 0..200 {
        if TcpStream::connect(&server.address).is_ok() {
            return server;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{command:?} does not listen");
}

/// Debian's registry with these lines of configuration for `http`, and these for the rest.
fn registry(directory: &Path, name: &str, http: &str, rest: &str) -> Server {
    let port = free_port();
    let path = directory.join(format!("{name}.yml"));
    let storage = directory.join(name);
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n\
         http:\n  addr: 127.0.0.1:{port}\n{http}{rest}",
        storage.display()
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&path);
    start(command, port)
}

/// A certificate for 127.0.0.1 and its key, by an authority of our own, in PEM files.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    fn new(directory: &Path) -> Self {
        let certificates = Self { directory: directory.to_owned() };
        certificates
            .openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.pem");
        // What most people make: a certificate that signs itself and is marked as an authority.
        certificates.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=self -addext subjectAltName=IP:127.0.0.1 -keyout self.key -out self.pem",
        );
        std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        for name in ["server", "client"] {
            certificates.openssl(&format!(
                "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.request"
            ));
            certificates.openssl(&format!(
                "x509 -req -in {name}.request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
            ));
        }
        certificates
    }

    fn openssl(&self, line: &str) {
        run(Command::new("openssl").args(line.split(' ')).current_dir(&self.directory)).success();
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The registry's settings for one of them.
    fn tls(&self, name: &str) -> String {
        format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            self.path(&format!("{name}.pem")),
            self.path(&format!("{name}.key"))
        )
    }
}

/// A build without any flag about registries.
fn build(dockerfile: &str, destination: &str) -> (Workspace, Command) {
    let workspace = Workspace::new(dockerfile);
    workspace.file("file", "content");
    let mut command = crabwright();
    command
        .arg(format!("--context=dir://{}", workspace.context().display()))
        .arg(format!("--dockerfile={}", workspace.context().join("Dockerfile").display()))
        .arg(format!("--work-dir={}", workspace.out().join("work").display()))
        .arg(format!("--destination={destination}"));
    (workspace, command)
}

/// Pushes an image, and builds and pushes another on top of it: the push and the pull both work.
#[track_caller]
fn there_and_back(address: &str, prepare: impl Fn(&mut Command)) {
    for (dockerfile, tag) in
        [("FROM scratch\nCOPY file /\n".to_owned(), "1"), (format!("FROM {address}/app:1\nCOPY file /second\n"), "2")]
    {
        let (_workspace, mut command) = build(&dockerfile, &format!("{address}/app:{tag}"));
        prepare(&mut command);
        run(&mut command).success();
    }
}

fn refused(address: &str, prepare: impl Fn(&mut Command)) -> Ended {
    let (_workspace, mut command) = build("FROM scratch\nCOPY file /\n", &format!("{address}/app:1"));
    prepare(&mut command);
    run(&mut command)
}

#[test]
fn certificates_of_a_private_authority() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(directory.path());
    let server = registry(directory.path(), "tls", &certificates.tls("server"), "");
    let address = &server.address;
    refused(address, |_| {}).refused(1, &["certificate", &format!("--registry-certificate={address}=FILE")]);
    let authority = certificates.path("ca.pem");
    there_and_back(address, |command| {
        command.arg(format!("--registry-certificate={address}={authority}"));
    });
    there_and_back(address, |command| {
        command.env("SSL_CERT_FILE", &authority);
    });
    there_and_back(address, |command| {
        command.arg(format!("--skip-tls-verify-registry={address}"));
    });
    there_and_back(address, |command| {
        command.args(["--skip-tls-verify", "--skip-tls-verify-pull"]);
    });
    refused(address, |command| {
        command.arg("--skip-tls-verify-pull");
    })
    .refused(1, &["certificate"]);
    refused(address, |command| {
        command.arg(format!("--registry-certificate={address}={}", certificates.path("ca.key")));
    })
    .refused(1, &["ca.key has no certificate in PEM form"]);
}

#[test]
fn a_certificate_that_signs_itself_is_trusted_when_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(directory.path());
    let server = registry(directory.path(), "tls", &certificates.tls("self"), "");
    let address = &server.address;
    there_and_back(address, |command| {
        command.arg(format!("--registry-certificate={address}={}", certificates.path("self.pem")));
    });
    // Another one is not, nor is it for another name.
    refused(address, |command| {
        command.arg(format!("--registry-certificate={address}={}", certificates.path("ca.pem")));
    })
    .refused(1, &["certificate"]);
    let by_name = address.replace("127.0.0.1", "localhost");
    refused(&by_name, |command| {
        command.arg(format!("--registry-certificate={by_name}={}", certificates.path("self.pem")));
    })
    .refused(1, &["certificate"]);
}

#[test]
fn client_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(directory.path());
    let authority = certificates.path("ca.pem");
    let settings = format!("{}    clientcas: [{authority}]\n", certificates.tls("server"));
    let server = registry(directory.path(), "mutual", &settings, "");
    let address = &server.address;
    let trusting = |command: &mut Command| {
        command.arg(format!("--registry-certificate={address}={authority}"));
    };
    refused(address, trusting).refused(1, &[&format!("--registry-client-cert={address}=")]);
    let (certificate, key) = (certificates.path("client.pem"), certificates.path("client.key"));
    there_and_back(address, |command| {
        trusting(command);
        command.arg(format!("--registry-client-cert={address}={certificate},{key}"));
    });
    let other = certificates.path("server.key");
    refused(address, |command| {
        trusting(command);
        command.arg(format!("--registry-client-cert={address}={certificate},{other}"));
    })
    .refused(1, &["set up", "client.pem"]);
}

#[test]
fn passwords() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("htpasswd");
    let line = run(Command::new("htpasswd").args(["-Bbn", "robot", "sesame"])).success().said;
    std::fs::write(&file, line).unwrap();
    let settings = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
    let server = registry(directory.path(), "passwords", "", &settings);
    with_every_source_of_credentials(&server.address, directory.path());
}

/// Everything that can hold a user and a password; without one, the error says where one is missing.
fn with_every_source_of_credentials(address: &str, directory: &Path) {
    refused(address, |_| {}).refused(1, &["401", "no credentials were used"]);
    let pair = STANDARD.encode("robot:sesame");
    there_and_back(address, |command| {
        command.env("DOCKER_AUTH_CONFIG", format!(r#"{{"auths":{{"{address}":{{"auth":"{pair}"}}}}}}"#));
    });
    // Beside it, to show that a name is not taken from the path of another repository.
    let scoped = format!(r#"{{"auths":{{"{address}/other":{{"auth":"eDp5"}},"{address}/app":{{"auth":"{pair}"}}}}}}"#);
    std::fs::write(directory.join("auth.json"), scoped).unwrap();
    there_and_back(address, |command| {
        command.env("REGISTRY_AUTH_FILE", directory.join("auth.json"));
    });
    there_and_back(address, |command| {
        command.env("KANIKO_127_0_0_1_USER", "robot").env("KANIKO_127_0_0_1_PASSWORD", "sesame");
    });
    there_and_back(address, |command| {
        command.env("CI_REGISTRY", address).env("CI_REGISTRY_USER", "robot").env("CI_REGISTRY_PASSWORD", "sesame");
    });
    refused(address, |command| {
        command.env("KANIKO_127_0_0_1_USER", "robot").env("KANIKO_127_0_0_1_PASSWORD", "sesame");
        command.arg("--credential-helpers=gitlab");
    })
    .refused(1, &["401", "no credentials were used"]);
    let program = directory.join("docker-credential-test");
    std::fs::write(&program, "#!/bin/sh\necho '{\"Username\":\"robot\",\"Secret\":\"sesame\"}'\n").unwrap();
    run(Command::new("chmod").arg("755").arg(&program)).success();
    there_and_back(address, |command| {
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
        command.env("DOCKER_AUTH_CONFIG", r#"{"credsStore":"test"}"#).env("PATH", path);
    });
    let home = directory.join("home");
    let mut login = crabwright();
    login.args(["login", address, "--username", "robot", "--password-stdin"]).env("DOCKER_CONFIG", &home);
    let mut child = login.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"sesame\n").unwrap();
    assert!(child.wait().unwrap().success());
    there_and_back(address, |command| {
        command.env("DOCKER_CONFIG", &home);
    });
}

#[test]
fn tokens() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(directory.path());
    let realm = token_server(directory.path());
    let settings = format!(
        "auth:\n  token: {{realm: {realm}, service: test, issuer: test, rootcertbundle: {}}}\n",
        certificates.path("self.pem")
    );
    let server = registry(directory.path(), "tokens", "", &settings);
    with_every_source_of_credentials(&server.address, directory.path());
}

/// A token server for `robot`, which signs with `self.key`; gives its URL.
fn token_server(directory: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            give_token(stream, &directory);
        }
    });
    format!("http://{address}/token")
}

fn give_token(mut stream: TcpStream, directory: &Path) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let known = format!("authorization: basic {}", STANDARD.encode("robot:sesame")).to_lowercase();
    let (status, body) = if headers.iter().any(|header| header.to_lowercase() == known) {
        ("200 OK", json!({"token": token(&request, directory), "expires_in": 120}))
    } else {
        ("401 Unauthorized", json!({"details": "incorrect username or password"}))
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

/// What the registry's token specification asks for: who, for whom, what, until when, signed.
fn token(request: &str, directory: &Path) -> String {
    let path = request.split(' ').nth(1).unwrap();
    let url = reqwest::Url::parse(&format!("http://host{path}")).unwrap();
    let scopes = url.query_pairs().filter(|(name, _)| name == "scope").map(|(_, scope)| scope.into_owned());
    let access: Vec<Value> = scopes
        .map(|scope| {
            let parts: Vec<&str> = scope.split(':').collect();
            json!({"type": parts[0], "name": parts[1], "actions": parts[2].split(',').collect::<Vec<_>>()})
        })
        .collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let certificate = std::fs::read_to_string(directory.join("self.pem")).unwrap();
    let certificate: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = json!({
        "iss": "test", "sub": "robot", "aud": "test", "exp": now + 120, "nbf": now - 10, "iat": now, "jti": "1",
        "access": access,
    });
    let text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(directory.join("self.key"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let signature = openssl.wait_with_output().unwrap().stdout;
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn behind_nginx_with_its_limit_of_one_megabyte() {
    let directory = tempfile::tempdir().unwrap();
    let server = registry(directory.path(), "behind", "  relativeurls: true\n", "");
    let port = free_port();
    let (path, scratch) = (directory.path().join("nginx.conf"), directory.path().display());
    let text = format!(
        "daemon off;\npid {scratch}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {scratch}/body;\n  proxy_temp_path {scratch}/proxy;\n  fastcgi_temp_path {scratch}/f;\n  \
         uwsgi_temp_path {scratch}/u;\n  scgi_temp_path {scratch}/s;\n  server {{\n    listen 127.0.0.1:{port};\n    \
         location / {{ proxy_pass http://{}; proxy_set_header Host $http_host; }}\n  }}\n}}\n",
        server.address
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    // A master of its own would outlive the test.
    command.arg("-c").arg(&path).args(["-g", "master_process off;"]).arg("-p").arg(directory.path());
    let nginx = start(command, port);
    let (workspace, mut command) = build("FROM scratch\nCOPY large /\n", &format!("{}/app:1", nginx.address));
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56).to_le_bytes()[0]
    })
    .take(5_000_000)
    .collect();
    std::fs::write(workspace.context().join("large"), noise).unwrap();
    run(&mut command).success();
    let (_workspace, mut again) =
        build(&format!("FROM {}/app:1\nCOPY file /\n", nginx.address), &format!("{}/app:2", nginx.address));
    run(&mut again).success();
}

#[test]
fn a_pull_through_mirror_and_one_that_is_down() {
    let directory = tempfile::tempdir().unwrap();
    let origin = registry(directory.path(), "origin", "", "");
    let mirror =
        registry(directory.path(), "mirror", "", &format!("proxy: {{remoteurl: \"http://{}\"}}\n", origin.address));
    let (_workspace, mut first) = build("FROM scratch\nCOPY file /\n", &format!("{}/base:1", origin.address));
    run(&mut first).success();
    let target = registry(directory.path(), "target", "", "");
    let mapped = |mirrors: &str, only: bool, tag: &str| {
        let (_workspace, mut command) = build(
            &format!("FROM {}/base:1\nCOPY file /second\n", origin.address),
            &format!("{}/app:{tag}", target.address),
        );
        command.arg(format!("--registry-map={mirrors}"));
        command.arg(format!("--skip-default-registry-fallback={only}"));
        run(&mut command)
    };
    mapped(&format!("{}={}", origin.address, mirror.address), true, "1").success();
    let (down, other) = (format!("{}=127.0.0.1:1", origin.address), format!("{}={}", origin.address, mirror.address));
    let said = mapped(&format!("{down};{other}"), true, "2").success().said;
    assert!(said.contains("the next registry is tried"), "{said}");
    mapped(&down, false, "3").success();
    mapped(&down, true, "4").refused(1, &["cannot connect to 127.0.0.1:1"]);
}

/// Debian's registry deletes only where its configuration says so.
#[test]
fn a_cache_is_pruned_where_the_registry_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let keeps = registry(directory.path(), "keeps", "", "");
    for (repository, deletes) in [(peers().repository("pruned"), true), (format!("{}/app", keeps.address), false)] {
        let cache = format!("--cache-repo={repository}/cache");
        let prune = |argument: &str| run(crabwright().args(["cache", "prune", &cache, argument]));
        let (_workspace, mut command) = build("FROM scratch\nCOPY file /\nWORKDIR /w\n", &format!("{repository}:1"));
        command.args(["--cache", &cache]);
        assert!(run(&mut command).success().said.contains("cache    0 of 2 steps"));
        assert!(run(&mut command).success().said.contains("cache    2 of 2 steps"));
        assert!(prune("--keep=3").success().said.contains("0 deleted, 3 kept"), "two entries and the record");
        if deletes {
            assert!(prune("--keep=0").success().said.contains("3 deleted, 0 kept"));
            assert!(prune("--keep=0").success().said.contains("0 deleted, 0 kept"));
        } else {
            prune("--keep=0").refused(1, &["does not delete manifests", "405", "REGISTRY_STORAGE_DELETE_ENABLED"]);
        }
        let said = run(&mut command).success().said;
        assert_eq!(said.contains("cache    0 of 2 steps"), deletes, "{said}");
        assert_eq!(said.contains("cache    2 of 2 steps"), !deletes, "{said}");
        // What was deleted can be written again.
        assert!(run(&mut command).success().said.contains("cache    2 of 2 steps"));
    }
}
