//! What the executor reads and starts while own-root has an image's files in `/`: nothing of the image.
//!
//! The class of CVE-2019-14271 (`docker cp` loaded libraries out of the container it was asked about) and CVE-2026-41567 (a
//! program found by the PATH within a container). Each image here has programs and files at the places where credentials come
//! from; the build needs credentials for the first time while such an image is in `/`, because that is when its first layer is
//! uploaded, or needs others for each request.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::fake_registry::{Authentication, FakeRegistry, Fault, Habits};
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Ended, Workspace};
use crate::support::web::{Answer, Asked, Web};

const PATIENCE: Duration = Duration::from_secs(60);
/// Secrets of the executor: what it has no business to tell.
const ENVIRONMENT: &str = "SECRET=SESAME-environment";
/// A program of the image says that it ran, and what it was given.
const THIEF: &str = "#!/bin/sh\necho \"$0 ran: $(env | grep SESAME)\" >> /stolen\n";
const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const GOOGLE: &str = "gcr.io";

/// A build whose image has files where the executor looks for credentials, and whose RUN lasts until the registry has been
/// asked for something.
struct Build {
    registry: FakeRegistry,
    /// Answers the RUN, and whoever asks for tokens.
    web: Web,
    workspace: Workspace,
    /// Files of the container, which no mount keeps in place.
    own: tempfile::TempDir,
    has_run: Arc<AtomicBool>,
}

impl Build {
    /// `tokens` answers for paths below `/token`.
    async fn new(habits: Habits, tokens: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let registry = FakeRegistry::start(habits).await;
        // Nobody gets in before the RUN has begun, so that what is needed for it is looked for then. An answer, be it an error,
        // would have credentials looked for that its message can name.
        registry.fail("GET", "/v2/", 0, u32::MAX, Fault::Close);
        let has_run: Arc<AtomicBool> = Arc::default();
        let (begun, asked) = (Arc::clone(&has_run), registry.clone());
        let web = Web::serve(move |request, _before| {
            if request.path != "/begun" {
                return tokens(request);
            }
            begun.store(true, Ordering::Release);
            asked.forget_faults();
            asked.forget_requests();
            let start = Instant::now();
            while asked.seen().is_empty() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
            Answer::ok("begun")
        });
        // The target has no base, whose layers would be uploaded before anything runs.
        let workspace = Workspace::new(&format!(
            "FROM {} AS tools\nFROM scratch\nCOPY --from=tools / /\nCOPY image /\n\
             RUN wget -q -O /begun {} && sleep 3\nRUN if test -e /stolen; then cat /stolen; exit 9; fi\n",
            peers().busybox(),
            web.url("/begun"),
        ));
        let build = Self { registry, web, workspace, own: tempfile::tempdir().unwrap(), has_run };
        for program in ["docker-credential-desktop", "gcloud", "steal"] {
            build.image_program(program);
        }
        // Where the executor's PATH has it.
        std::os::unix::fs::symlink("/bin/sh", build.workspace.context().join("image/usr/local/bin/sh")).unwrap();
        build
    }

    fn image_program(&self, name: &str) {
        let place = format!("image/usr/local/bin/{name}");
        let answer =
            r#"printf '{"Version":1,"AccessKeyId":"EVIL","SecretAccessKey":"e","Username":"evil","Secret":"evil"}'"#;
        self.workspace.file(&place, &format!("{THIEF}{answer}\n"));
        let path = self.workspace.context().join(place);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn image_file(&self, path: &str, content: &str) -> &Self {
        self.workspace.file(&format!("image/{path}"), content);
        self
    }

    fn own_file(&self, path: &str, content: &str) -> &Self {
        let path = self.own.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Builds for `host`, which is behind a proxy that is the registry, or the registry itself.
    async fn run(&self, pod: Pod, host: &str, flags: &[&str]) -> Ended {
        let proxy = format!("http://{}", self.registry.host());
        let pod = pod
            .mount(&self.workspace.context(), "/workspace:ro")
            .option(&format!("--env={ENVIRONMENT}"))
            .option(&format!("--env=HTTP_PROXY={proxy}"))
            .option("--env=HTTPS_PROXY=http://127.0.0.1:9")
            .option("--env=NO_PROXY=127.0.0.1")
            .option("--env=AWS_EC2_METADATA_DISABLED=true");
        let destination = format!("--destination={host}/app:1");
        let insecure = format!("--insecure-registry={host}");
        let own = self.own.path().to_owned();
        let mut arguments: Vec<String> =
            ["--context=dir:///workspace", "--isolation=own-root", &destination, &insecure, "--insecure-pull"]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let ended = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let pod = pod.create(&arguments);
            pod.put(&own, "/");
            pod.start_again();
            pod.wait(Duration::from_secs(180))
        });
        ended.await.unwrap()
    }

    /// The build succeeded, nothing of the image was used, and the push was made with what the container has.
    #[track_caller]
    fn assert_pushed(&self, ended: Ended) {
        let ended = ended.success();
        assert!(self.has_run.load(Ordering::Acquire), "{}", ended.said);
        assert_eq!(self.registry.tags("app"), ["1"], "{}", ended.said);
        let evil: Vec<Asked> = self.web.asked().into_iter().filter(|asked| asked.path.contains("evil")).collect();
        assert!(evil.is_empty(), "{evil:?}");
        let wrong = [basic("evil", "evil"), basic("oauth2accesstoken", "evil")];
        let seen = self.registry.seen();
        let sent: Vec<_> = seen.iter().filter_map(|seen| seen.authorization.as_ref()).collect();
        assert!(!sent.iter().any(|header| wrong.contains(*header)), "{sent:?}");
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn password(user: &'static str) -> Habits {
    Habits {
        authentication: Authentication::Basic { user, password: "sesame" },
        // Behind the proxy the registry has another name than it knows.
        relative_location: true,
        ..Habits::default()
    }
}

/// The config of a desk: its program is not in the container, and so is looked for again with every token.
#[tokio::test]
async fn cve_2026_41567_no_credential_helper_of_the_image_runs() {
    let tokens = Authentication::Token { user: "robot", password: "sesame", requests: u32::MAX };
    let habits = Habits { authentication: tokens, token_life: Some(1), ..Habits::default() };
    let build = Build::new(habits, |_| Answer::status(404)).await;
    build.own_file("kaniko/.docker/config.json", r#"{"credsStore":"desktop"}"#);
    let pod = Pod::new().option("--env=KANIKO_127_0_0_1_USER=robot").option("--env=KANIKO_127_0_0_1_PASSWORD=sesame");
    let host = build.registry.host();
    let ended = build.run(pod, &host, &["--skip-push-permission-check"]).await;
    build.assert_pushed(ended);
}

/// A process that the AWS SDK starts because a file of its user says so.
#[tokio::test]
async fn cve_2019_14271_no_file_of_the_image_says_what_amazon_is_told() {
    let seen: Arc<OnceLock<String>> = Arc::default();
    let signed = Arc::clone(&seen);
    let build = Build::new(password("AWS"), move |asked| {
        let signature = asked.headers.get("authorization").cloned().unwrap_or_default();
        signed.get_or_init(|| signature);
        let token = STANDARD.encode("AWS:sesame");
        Answer::ok(format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}"}}]}}"#))
    })
    .await;
    build.image_file("root/.aws/config", "[default]\ncredential_process = /usr/local/bin/steal\n");
    build.own_file("root/.aws/credentials", "[default]\naws_access_key_id = OWN\naws_secret_access_key = own\n");
    let pod = Pod::new().option(&format!("--env=AWS_ENDPOINT_URL_ECR={}", build.web.url("/token")));
    let ended = build.run(pod, ECR, &["--skip-push-permission-check"]).await;
    build.assert_pushed(ended);
    let signature = seen.get().unwrap();
    assert!(signature.contains("Credential=OWN/"), "{signature}");
}

/// Files of Google's libraries, and a token that lies where own-root hides it from commands.
#[tokio::test]
async fn cve_2019_14271_no_file_of_the_image_says_what_google_is_told() {
    let build = Build::new(password("oauth2accesstoken"), |asked| match asked.path.as_str() {
        "/token/own" => Answer::ok(r#"{"access_token":"sesame","expires_in":3600}"#),
        _ => Answer::ok(r#"{"access_token":"evil","expires_in":3600}"#),
    })
    .await;
    let credentials = |token: &str, file: &str| {
        let url = build.web.url(token);
        format!(
            r#"{{"type":"external_account","audience":"a","subject_token_type":"jwt","token_url":"{url}","credential_source":{{"file":"{file}"}}}}"#
        )
    };
    let place = "root/.config/gcloud/application_default_credentials.json";
    build.image_file(place, &credentials("/token/evil", "/evil-token")).image_file("evil-token", "evil");
    build.image_file("settings.json", r#"{"TokenSources":["gcloud"]}"#);
    build.own_file(place, &credentials("/token/own", "/var/run/secrets/tokens/token"));
    build.own_file("settings.json", r#"{"TokenSources":["env"]}"#);
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("token"), "own").unwrap();
    let pod = Pod::new()
        .mount(secrets.path(), "/var/run/secrets/tokens:ro")
        .option("--env=DOCKER_CREDENTIAL_GCR_CONFIG=/settings.json");
    let ended = build.run(pod, GOOGLE, &["--skip-push-permission-check"]).await;
    build.assert_pushed(ended);
    let own = build.web.asked().iter().any(|asked| asked.path == "/token/own");
    assert!(own, "the container's own credentials were used");
}
