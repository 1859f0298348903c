//! What the flags about registries do, with the real program against a registry inside the test.

use std::process::Command;

use serde_json::Value;

use crate::support::fake_registry::{Authentication, FakeRegistry, Fault, Habits};
use crate::support::program::{Ended, Workspace, run};

const TOKEN: Authentication = Authentication::Token { user: "robot", password: "sesame", requests: u32::MAX };

/// A build of one file on nothing, pushed to `app:1` of the registry.
fn build(workspace: &Workspace, registry: &FakeRegistry) -> Command {
    workspace.file("file", "content");
    let mut command = workspace.build();
    command.arg(format!("--destination={}/app:1", registry.host()));
    command
}

fn scratch() -> Workspace {
    Workspace::new("FROM scratch\nCOPY file /\n")
}

/// Runs the program while the test's registry goes on answering.
async fn run_beside(mut command: Command) -> Ended {
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

fn manifest(registry: &FakeRegistry) -> Value {
    serde_json::from_slice(&registry.manifest("app", "1").unwrap()).unwrap()
}

#[tokio::test]
async fn a_push_that_is_not_allowed_fails_before_the_build() {
    let denied = Fault::Status(403, vec![], r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#.to_owned());
    for (flag, failed) in
        [(None, "check the push permission"), (Some("--skip-push-permission-check"), "no tag was written")]
    {
        let registry = FakeRegistry::start(Habits::default()).await;
        registry.fail("POST", "/blobs/uploads/", 0, u32::MAX, denied.clone());
        let workspace = scratch();
        let mut command = build(&workspace, &registry);
        command.args(flag);
        run_beside(command).await.refused(1, &[failed, "403", "read only", "may push"]);
        assert_eq!(registry.count("HEAD", "/blobs/") > 0, flag.is_some(), "blobs come after the build only");
    }
}

#[tokio::test]
async fn manifests_have_the_format_and_the_annotations_asked_for() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = scratch();
    let mut command = build(&workspace, &registry);
    command.args(["--annotation", "org.example.a=b=c"]);
    run_beside(command).await.success();
    assert_eq!(manifest(&registry)["annotations"]["org.example.a"], "b=c");
    assert_eq!(manifest(&registry)["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let mut command = build(&workspace, &registry);
    command.args(["--image-format", "docker"]);
    run_beside(command).await.success();
    let docker = manifest(&registry);
    assert_eq!(docker["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(docker["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    assert_eq!(docker["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
}

#[tokio::test]
async fn a_tag_that_must_not_change_may_be_no_failure() {
    let body = r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag '1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable."}]}"#;
    let immutable = Fault::Status(400, vec![], body.to_owned());
    let registry = FakeRegistry::start(Habits::default()).await;
    let workspace = scratch();
    registry.fail("PUT", "/manifests/1", 0, 2, immutable);
    let refused = run_beside(build(&workspace, &registry)).await;
    refused.refused(1, &["tag is immutable", "--push-ignore-immutable-tag-errors"]);
    let mut command = build(&workspace, &registry);
    command.arg("--push-ignore-immutable-tag-errors");
    let ended = run_beside(command).await.success();
    assert!(ended.said.contains("is immutable and was not changed"), "{}", ended.said);
    assert!(registry.manifest("app", "1").is_none());
}

#[tokio::test]
async fn a_push_is_tried_as_often_as_asked() {
    let registry = FakeRegistry::start(Habits::default()).await;
    let again = Fault::Status(429, vec![("retry-after", "0".to_owned())], String::new());
    registry.fail("PUT", "/manifests/", 0, 7, again);
    let workspace = scratch();
    let mut command = build(&workspace, &registry);
    command.arg("--push-retry=7");
    run_beside(command).await.success();
    assert_eq!(registry.count("PUT", "/manifests/"), 8);
}

#[tokio::test]
async fn mirrors_of_flags_and_of_the_environment_are_used() {
    let mirror = FakeRegistry::start(Habits::default()).await;
    let registry = FakeRegistry::start(Habits::default()).await;
    // What is built first is the base of what is built then.
    let base = scratch();
    base.file("file", "content");
    let mut command = base.build();
    command.arg(format!("--destination={}/hub/library/base:1", mirror.host()));
    run_beside(command).await.success();
    let workspace = Workspace::new("FROM base:1\nCOPY file /second\n");
    for (flag, variable) in [
        (Some(format!("--registry-mirror=http://{}/hub", mirror.host())), None),
        (Some(format!("--registry-map=index.docker.io={}/hub", mirror.host())), None),
        (None, Some(("KANIKO_REGISTRY_MIRROR", format!("{}/hub", mirror.host())))),
        (None, Some(("KANIKO_REGISTRY_MAP", format!("docker.io={}/hub", mirror.host())))),
    ] {
        let mut command = build(&workspace, &registry);
        command.arg("--skip-default-registry-fallback").args(flag).envs(variable);
        run_beside(command).await.success();
        assert_eq!(manifest(&registry)["layers"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn proxies_of_the_environment_are_used() {
    // The registry takes the place of a proxy for plain http; it knows no CONNECT, so https fails.
    let proxy = FakeRegistry::start(Habits { relative_location: true, ..Habits::default() }).await;
    let workspace = scratch();
    workspace.file("file", "content");
    let mut command = workspace.build();
    let address = format!("http://{}", proxy.host());
    command.args(["--destination=registry.example/app:1"]);
    command.env("HTTP_PROXY", &address).env("HTTPS_PROXY", &address).env_remove("NO_PROXY").env_remove("no_proxy");
    run_beside(command).await.success();
    assert!(proxy.manifest("app", "1").is_some());
}

/// Everything the program writes, in every place, at the most talkative level: no password, token or signature is in it.
#[tokio::test]
async fn no_secret_is_in_any_output() {
    use base64::Engine;
    let storage = FakeRegistry::start(Habits::default()).await;
    for password in ["sesame", "wrong-sesame"] {
        let habits = Habits { authentication: TOKEN, blobs_elsewhere: Some(storage.host()), ..Habits::default() };
        let registry = FakeRegistry::start(habits).await;
        let workspace = scratch();
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("robot:{password}"));
        std::fs::create_dir(workspace.out().join("docker")).unwrap();
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"{pair}"}}}}}}"#, registry.host());
        std::fs::write(workspace.out().join("docker/config.json"), config).unwrap();
        let mut command = build(&workspace, &registry);
        command.env("DOCKER_CONFIG", workspace.out().join("docker")).args(["-v", "trace", "--log-format", "json"]);
        command.arg(format!("--digest-file={}", workspace.out().join("digest").display()));
        command.arg(format!("--tar-path={}", workspace.out().join("image.tar").display()));
        let ended = run_beside(command).await;
        assert_eq!(ended.code == 0, password == "sesame", "{}", ended.said);
        assert!(ended.said.contains("fetch a token"), "the log is talkative");
        let mut written = vec![("the output".to_owned(), ended.said.into_bytes())];
        collect_files(&workspace.out(), &mut written);
        for (place, content) in written.iter().filter(|(place, _)| !place.ends_with("docker/config.json")) {
            for secret in [password, &pair, "token-", "signature=", "Bearer "] {
                let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret:?} is in {place}: {}", String::from_utf8_lossy(content));
            }
        }
    }
}

fn collect_files(directory: &std::path::Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

/// Amazon's registry, token service and STS are played by registries of the test, the first as a proxy for plain http.
#[tokio::test]
async fn amazons_registry_gets_a_token_for_keys_and_for_a_web_identity() {
    let robot = Authentication::Basic { user: "AWS", password: "sesame" };
    let habits = Habits { authentication: robot, relative_location: true, ..Habits::default() };
    let registry = FakeRegistry::start(habits).await;
    // QVdTOnNlc2FtZQ== is AWS:sesame
    let answer = r#"{"authorizationData":[{"authorizationToken":"QVdTOnNlc2FtZQ=="}]}"#;
    let ecr = FakeRegistry::start(Habits::default()).await;
    ecr.fail("POST", "/", 0, u32::MAX, Fault::Status(200, vec![], answer.to_owned()));
    let sts = FakeRegistry::start(Habits::default()).await;
    let role = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>\
                <SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-session</SessionToken>\
                <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
                </AssumeRoleWithWebIdentityResponse>";
    sts.fail(
        "POST",
        "/",
        0,
        u32::MAX,
        Fault::Status(200, vec![("content-type", "text/xml".to_owned())], role.to_owned()),
    );
    let workspace = scratch();
    workspace.file("file", "content");
    let token = workspace.out().join("web-identity");
    std::fs::write(&token, "subject-token").unwrap();
    let keys = vec![("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", "key-secret")];
    let arn = "arn:aws:iam::123456789012:role/builder";
    let identity = vec![("AWS_ROLE_ARN", arn), ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap())];
    for variables in [keys, identity] {
        let mut command = workspace.build();
        let proxy = format!("http://{}", registry.host());
        command.arg("--destination=123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1").args(["-v", "debug"]);
        command.env("HTTP_PROXY", &proxy).env("HTTPS_PROXY", &proxy).env_remove("NO_PROXY").env_remove("no_proxy");
        command.env("AWS_ENDPOINT_URL_ECR", format!("http://{}/", ecr.host()));
        command.env("AWS_ENDPOINT_URL_STS", format!("http://{}/", sts.host()));
        command.env("AWS_EC2_METADATA_DISABLED", "true").envs(variables);
        let ended = run_beside(command).await.success();
        for secret in ["sesame", "secret", "session", "subject-token", "QVdTOn"] {
            assert!(!ended.said.contains(secret), "{secret}: {}", ended.said);
        }
    }
    assert!(registry.manifest("app", "1").is_some());
    let signed: Vec<_> = ecr.seen().into_iter().filter_map(|seen| seen.authorization).collect();
    assert!(signed.iter().any(|header| header.contains("Credential=AKIDTEST/")), "{signed:?}");
    assert!(signed.iter().any(|header| header.contains("Credential=ASIAROLE/")), "{signed:?}");
}
