//! The manifests and pipelines that the project hands out, run as they are: only the names of hosts and images are replaced.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::git::Repository;
use crate::support::images;
use crate::support::kube::{Kube, manifest};
use crate::support::peers::peers;
use crate::support::pod::{debug_image, executor_image};
use crate::support::program::{Workspace, run, source_directory, stdout};
use crate::support::web::Web;

fn dockerfile() -> String {
    format!("FROM {}\nRUN echo built > /built\n", peers().busybox())
}

fn docker_config() -> String {
    std::fs::read_to_string(Path::new(peers().docker_config()).join("config.json")).unwrap()
}

#[test]
fn manifests_and_pipelines_match_their_schemas() {
    let mut validate = Command::new(peers().python());
    run(validate.arg(source_directory().join("tests/validate-manifests")).current_dir(source_directory())).success();
}

#[test]
fn the_pod_runs_under_podman() {
    let mut kube = Kube::new("crabwright-pod");
    let [executor, _debug] = kube.load_images();
    let (secret, volume) = (kube.own("credentials"), kube.own("context"));
    kube.secret(&secret, "config.json", &docker_config());
    kube.volume(&volume, &[("Dockerfile", &dockerfile())]);
    let destination = format!("{}/{}", peers().registry_with_password(), kube.own("app"));
    let pod = manifest(
        "k8s/pod.yaml",
        &[
            ("registry.example/crabwright:0.1", executor),
            ("registry.example/team/app", &destination),
            ("registry-credentials", &secret),
            ("claimName: build-context", &format!("claimName: {volume}")),
        ],
    );
    let ended = kube.play(pod).success();
    assert!(ended.said.contains(&format!("pushed {destination}:1.0@sha256:")), "{}", ended.said);
}

/// Pods as people have them for kaniko: with a context on a volume and Docker's credentials, and with a repository. Nothing
/// but the image's line is another one.
#[test]
fn pods_of_kaniko_run_with_another_image() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(&directory.path().join("team"), "app");
    repository.file("Dockerfile", &dockerfile()).commit("main");
    let git = Web::serve_git(directory.path().to_owned(), |_asked| None);
    let kaniko = "gcr.io/kaniko-project/executor:latest";
    for (file, tag) in [("testdata/kaniko/volume-pod.yaml", "1.0"), ("testdata/kaniko/repository-pod.yaml", "2.0")] {
        let mut kube = Kube::new("kaniko-pod");
        let [executor, _debug] = kube.load_images();
        let (secret, volume) = (kube.own("credentials"), kube.own("context"));
        kube.secret(&secret, "config.json", &docker_config());
        kube.volume(&volume, &[("Dockerfile", &dockerfile())]);
        let destination = format!("{}/{}", peers().registry_with_password(), kube.own("app"));
        let text = std::fs::read_to_string(source_directory().join(file)).unwrap();
        assert_eq!(text.matches(kaniko).count(), 1, "{file}");
        let mut names = vec![
            (kaniko, executor),
            ("registry.example/team/app", destination.as_str()),
            ("registry-credentials", secret.as_str()),
        ];
        let (claim, host) = (format!("claimName: {volume}"), git.host());
        let stand_ins = [("claimName: sources", claim.as_str()), ("git.example", host.as_str())];
        names.extend(stand_ins.into_iter().filter(|(name, _)| text.contains(name)));
        let mut pod = manifest(file, &names);
        // podman 4 ends with a panic where this is left out.
        for volume in pod["spec"]["volumes"].as_array_mut().unwrap() {
            if let Some(secret) = volume.get_mut("secret") {
                secret["optional"] = false.into();
            }
        }
        let ended = kube.play(pod).success();
        assert!(ended.said.contains(&format!("pushed {destination}:{tag}@sha256:")), "{file}: {}", ended.said);
    }
}

/// The pod of the Job: podman 4 knows no Jobs.
#[test]
fn the_job_runs_under_podman() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(&directory.path().join("team"), "app");
    repository.file("Dockerfile", &dockerfile()).commit("main");
    let git = Web::serve_git(directory.path().to_owned(), |_asked| None);
    let mut kube = Kube::new("crabwright-job");
    let [executor, debug] = kube.load_images();
    let secret = kube.own("credentials");
    kube.secret(&secret, "config.json", &docker_config());
    let destination = format!("{}/{}", peers().registry_with_password(), kube.own("app"));
    let job = manifest(
        "k8s/job.yaml",
        &[
            ("registry.example/crabwright:0.1-debug", debug),
            ("registry.example/crabwright:0.1", executor),
            ("registry.example/team/app", &destination),
            ("registry-credentials", &secret),
            ("git.example", &git.host()),
        ],
    );
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": job["spec"]["template"]["spec"]});
    // the stand-in for the server speaks no https
    pod["spec"]["initContainers"][0]["env"] = json!([{"name": "GIT_PULL_METHOD", "value": "http"}]);
    let ended = kube.play(pod).success();
    assert!(ended.said.contains(&format!("deploying {destination}@sha256:")), "{}", ended.said);
}

/// The script of a job, and its artifact in the next one, by a runner of GitLab's language.
#[test]
fn the_gitlab_jobs_run() {
    let image = debug_image();
    let tag = format!("crabwright-gitlab-{}:1", std::process::id());
    run(peers().docker().args(["tag", image, &tag])).success();
    let workspace = Workspace::new(&dockerfile());
    let pipeline = std::fs::read_to_string(source_directory().join("docs/pipelines/gitlab-ci.yml")).unwrap();
    assert_eq!(pipeline.matches("registry.example/crabwright:0.1-debug").count(), 2);
    workspace.file(".gitlab-ci.yml", &pipeline.replace("registry.example/crabwright:0.1-debug", &tag));
    for words in [
        &["init", "--quiet"] as &[_],
        &["add", "."],
        &["-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "-m", "all"],
        &["remote", "add", "origin", "https://gitlab.example/team/app.git"],
    ] {
        run(Command::new("git").current_dir(workspace.context()).args(words)).success();
    }
    let destination = format!("{}/gitlab-{}/app", peers().registry_with_password(), std::process::id());
    let config: Value = serde_json::from_str(&docker_config()).unwrap();
    assert!(config["auths"][peers().registry_with_password()].is_object());
    let variables = [
        ("CI_REGISTRY", peers().registry_with_password()),
        ("CI_REGISTRY_USER", peers().registry_user()),
        ("CI_REGISTRY_PASSWORD", peers().registry_password()),
        ("CI_REGISTRY_IMAGE", &destination),
    ];
    let mut runner = peers().gitlab_runner();
    runner.current_dir(workspace.context()).args(["--pull-policy=if-not-present", "--network=host"]);
    for (name, value) in variables {
        runner.arg(format!("--variable={name}={value}"));
    }
    let ended = run(&mut runner);
    run(peers().docker().args(["rmi", &tag]));
    let ended = ended.success();
    let commit = stdout(Command::new("git").current_dir(workspace.context()).args(["rev-parse", "--short=8", "HEAD"]));
    assert!(ended.said.contains(&format!("pushed {destination}:{commit}@sha256:")), "{}", ended.said);
    assert!(ended.said.contains(&format!("deploying {destination}@sha256:")), "{}", ended.said);
}

/// A container that sleeps, and the commands of the steps one after the other in it.
#[test]
fn the_jenkins_steps_run_in_one_container() {
    let pipeline = std::fs::read_to_string(source_directory().join("docs/pipelines/Jenkinsfile")).unwrap();
    let repository = peers().repository("jenkins");
    let steps: Vec<String> = pipeline
        .lines()
        .filter_map(|line| line.trim().strip_prefix("sh '")?.strip_suffix('\''))
        .map(|step| step.replace("registry.example/team", &repository))
        .collect();
    assert_eq!(steps.len(), 2);
    let workspace = Workspace::new(&dockerfile());
    workspace.file("worker/Dockerfile", &dockerfile());
    let container = stdout(
        peers()
            .docker()
            .args(["run", "--detach", "--rm", "--network=host", "--entrypoint=/busybox/sleep"])
            .arg(format!("--volume={}:/home/jenkins/agent", workspace.context().display()))
            .args([debug_image(), "infinity"]),
    );
    let ended: Vec<_> = steps
        .iter()
        .map(|step| {
            let mut exec = peers().docker();
            exec.args(["exec", "--env=WORKSPACE=/home/jenkins/agent", "--env=BUILD_NUMBER=7", &container]);
            run(exec.args(["/busybox/sh", "-c", step]))
        })
        .collect();
    run(peers().docker().args(["rm", "--force", &container])).success();
    for (ended, name) in ended.into_iter().zip(["app", "worker"]) {
        ended.success();
        assert!(images::exists(&format!("{repository}/{name}:7")), "{name} is not there");
    }
}

/// The step as Tekton starts it: variables replaced, workspaces mounted, results in files.
#[test]
fn the_tekton_step_runs() {
    let task = manifest("k8s/tekton-task.yaml", &[]);
    let destination = format!("{}/tekton-{}/app:1", peers().registry_with_password(), std::process::id());
    let workspace = Workspace::new(&dockerfile());
    let defaults = task["spec"]["params"].as_array().unwrap().iter();
    let mut variables: Vec<(String, String)> = defaults
        .filter_map(|param| Some((format!("$(params.{})", param["name"].as_str()?), param["default"].as_str()?.into())))
        .collect();
    variables.push(("$(params.IMAGE)".into(), destination.clone()));
    variables.push(("$(workspaces.source.path)".into(), "/workspace/source".into()));
    variables.push(("$(results.IMAGE_DIGEST.path)".into(), "/tekton/results/IMAGE_DIGEST".into()));
    variables.push(("$(results.IMAGE_URL.path)".into(), "/tekton/results/IMAGE_URL".into()));
    let step = &task["spec"]["steps"][0];
    let arguments = step["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
    let arguments: Vec<String> = arguments
        .filter(|argument| *argument != "$(params.EXTRA_ARGS)")
        .map(|argument| variables.iter().fold(argument.to_owned(), |text, (name, value)| text.replace(name, value)))
        .collect();
    assert!(!arguments.iter().any(|argument| argument.contains("$(")), "{arguments:?}");
    assert_eq!(step["securityContext"], json!({"runAsUser": 0}));
    let mount = |name: &str| {
        let mounts = task["spec"]["workspaces"].as_array().unwrap();
        let found = mounts.iter().find(|workspace| workspace["name"] == name).unwrap();
        found["mountPath"].as_str().map(str::to_owned)
    };
    run(peers()
        .docker()
        .args(["run", "--rm", "--network=host", "--user=0", "--workdir=/workspace/source"])
        .arg(format!("--volume={}:/workspace/source", workspace.context().display()))
        .arg(format!("--volume={}:{}", peers().docker_config(), mount("dockerconfig").unwrap()))
        .arg(format!("--volume={}:/tekton/results", workspace.out().display()))
        .arg(executor_image())
        .args(&arguments))
    .success();
    let result = |name: &str| std::fs::read_to_string(workspace.out().join(name)).unwrap();
    let digest = result("IMAGE_DIGEST");
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest:?}");
    assert_eq!(result("IMAGE_URL"), format!("{}@{digest}\n", destination.trim_end_matches(":1")));
}
