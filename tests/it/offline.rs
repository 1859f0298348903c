//! `RUN --network=none`: a network namespace where one is to be had, else a filter that leaves unix sockets alone.

use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::probe::add_probe;
use crate::support::program::Workspace;

const ARGUMENTS: [&str; 3] = ["--context=dir:///workspace", "--insecure-pull", "--no-push"];

fn workspace(instructions: &str) -> Workspace {
    let workspace = Workspace::new(&format!("FROM {}\nCOPY probe /\n{instructions}", peers().busybox()));
    add_probe(&workspace);
    workspace
}

/// The pods share the host's network, so that what is reached there is this machine's registry.
#[test]
fn a_command_without_network_reaches_no_registry_and_the_next_one_does() {
    let (host, port) = peers().registry().split_once(':').unwrap();
    let connects = format!("nc -w 5 {host} {port} < /dev/null");
    let workspace = workspace(&format!("RUN {connects}\nRUN --network=none ! {connects}\nRUN {connects}\n"));
    for change in [(|pod| pod) as fn(Pod) -> Pod, Pod::without_seccomp] {
        change(Pod::for_workspace(&workspace)).run(&ARGUMENTS).success();
    }
}

#[test]
fn in_own_root_a_command_without_network_makes_unix_sockets_only() {
    let workspace = workspace(
        "RUN --network=none /probe sockets > /made && sh -c '/probe sockets' > /made-by-child\n\
         RUN cmp /made /made-by-child && cat /made && test \"$(grep -c made /made)\" = 1 && grep -q 'unix: made' /made\n\
         RUN test \"$(grep -c 'Address family not supported' /made)\" = 3 && test \"$(/probe sockets | grep -c made)\" = 4\n",
    );
    Pod::for_workspace(&workspace).run(&ARGUMENTS).success().says("isolation: own-root");
}

/// The filter costs set-user-id programs what they would gain, where there is no CAP_SYS_ADMIN to do without that.
#[test]
fn in_own_root_a_command_without_network_changes_to_another_user_and_not_back() {
    let workspace = workspace(
        "RUN cp /probe /roots && chmod 4755 /roots\n\
         RUN --network=none test \"$(id -u)\" = 0 && touch /made-by-root && chown 12 /made-by-root\n\
         USER 12\n\
         RUN test \"$(/roots user)\" = 0\n\
         RUN --network=none test \"$(/roots user)\" = 12\n",
    );
    Pod::for_workspace(&workspace).run(&ARGUMENTS).success().says("isolation: own-root");
}

#[test]
fn a_pod_that_forbids_namespaces_and_filters_is_refused_before_anything_runs() {
    let workspace = workspace("RUN echo has-'run'\nRUN --network=none true\n");
    let profile = workspace.out().join("profile.json");
    let forbidden = r#"{"names": ["unshare", "mount", "seccomp"], "action": "SCMP_ACT_ERRNO"}"#;
    std::fs::write(&profile, format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{forbidden}]}}"#)).unwrap();
    let pod = Pod::for_workspace(&workspace).option(&format!("--security-opt=seccomp={}", profile.display()));
    let ended = pod.run(&ARGUMENTS).refused(1, &["Dockerfile:4", "--network=none", "seccompProfile"]);
    assert!(!ended.said.contains("has-run"), "{}", ended.said);
}
