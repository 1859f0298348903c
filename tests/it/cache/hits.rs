//! What is taken from the cache, and what makes a step another one.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const RUN_VERSION: &str = "RUN echo $VERSION > /version";
const COPY_OUT: &str = "COPY --from=build /out /result";
const RUN_DEPS: &str = "RUN cat req.txt /proc/sys/kernel/random/uuid > /deps";

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_build_runs_nothing_and_moves_no_layer() {
    for store in STORES {
        let bench = Bench::new(store).await;
        let cold = bench.build();
        assert_eq!((cold.cached(), cold.executed()), (vec![], 7), "{store:?}");
        bench.assert_entries_whole();
        let layers = bench.image_layers();
        let warm = bench.build();
        assert_eq!(warm.executed(), 0, "{}", warm.said());
        assert_eq!(warm.cached(), [COPY_OUT, RUN_VERSION]);
        assert!(!warm.said().contains("isolation:"), "nothing needs a sandbox");
        assert!(!warm.said().contains("[build"), "the stage that is only copied from is not built");
        assert!(!warm.said().contains("pull sha256"), "{}", warm.said());
        assert_eq!(bench.registry.count("GET", "/blobs/"), 0, "{store:?}");
        assert_eq!(bench.image_layers(), layers, "{store:?}");
        // Of 7 steps 4 are kept: those of the image, and the commands of the other stage.
        let looked_up = if store == Store::Registry { 4 } else { 0 };
        let bases = if store == Store::Registry { 1 } else { 0 };
        assert_eq!(bench.registry.count("GET", "/v2/cache/manifests/"), looked_up + bases);
        assert_eq!(bench.registry.count("HEAD", "/v2/cache/blobs/"), looked_up);
        assert_eq!(bench.registry.count("PUT", "/v2/cache/"), 0, "nothing is new");
    }
}

/// Layers that are pushed with the image are not uploaded a second time, into the cache or out of it.
#[tokio::test(flavor = "multi_thread")]
async fn layers_are_mounted_and_not_uploaded_twice() {
    let bench = Bench::new(Store::Registry).await;
    let uploads = |repository: &str| {
        let seen = bench.registry.seen();
        let upload = format!("/v2/{repository}/blobs/uploads/");
        let sent = seen.iter().filter(|seen| seen.path.starts_with(&upload) && seen.method == "PUT");
        // Configurations are small too; but there is one for each image.
        (sent.count(), seen.iter().filter(|seen| seen.path == upload && seen.query.contains("mount=")).count())
    };
    bench.build();
    // The base's layer comes from another registry: it is uploaded with the two of the image and its configuration.
    assert_eq!(uploads("app"), (4, 0));
    // The commands of the other stage are uploaded; four entries, the record and what is known of the base have configurations;
    // two layers are mounted.
    assert_eq!(uploads("cache"), (2 + 6, 2));
    // Another application with the same steps.
    bench.registry.forget_requests();
    let destination = format!("--destination={}/other:1", bench.registry.host());
    let mut command = bench.workspace.build();
    command.args(["--cache", "--cache-repo", &bench.place.to_string(), &destination]);
    run(&mut command).success();
    assert_eq!(uploads("other"), (2, 2), "the base's layer and the configuration are uploaded, the rest mounted");
    assert_eq!(bench.registry.count("GET", "/blobs/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_edited_repeats_what_needs_it() {
    for store in STORES {
        let bench = Bench::new(store).await;
        bench.build();
        bench.workspace.file("main.txt", "edited\n");
        let edited = bench.build();
        assert_eq!(edited.cached(), [RUN_DEPS, RUN_VERSION], "{store:?}");
        edited.says("context file main.txt changed");
        edited.says("not cached: an earlier step changed");
        assert_eq!(bench.build().executed(), 0);
        // Back again: that was built before.
        bench.workspace.file("main.txt", "main\n");
        assert_eq!(bench.build().executed(), 0);
    }
}

/// What makes a step another one, and what the message says.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_a_step() {
    let bench = Bench::new(Store::Directory).await;
    bench.build();
    let all = bench.keys().len();
    let version = bench.build_with(&["--build-arg=VERSION=2"]);
    // The copy lies on another layer: its source has to be there, and is taken from the cache.
    assert_eq!((version.cached().len(), version.cached().contains(&RUN_DEPS)), (2, true), "{}", version.said());
    version.says("not cached: variable VERSION changed");
    assert!(bench.keys().len() > all);
    let text = |change: &dyn Fn(&str) -> String| {
        let dockerfile = DOCKERFILE.replace("{base}", &peers().busybox());
        bench.workspace.file("Dockerfile", &change(&dockerfile));
        bench.build()
    };
    // A label and a command to start change no layer, a comment not even the image.
    let configured = text(&|file| format!("# comment\n{}LABEL a=b\n", file.replace("CMD [", "CMD [\"-\", ")));
    assert_eq!(configured.cached(), [COPY_OUT, RUN_VERSION], "{}", configured.said());
    bench.build();
    let environment = text(&|file| file.replace("ARG VERSION", "ENV NEW=1\nARG VERSION"));
    environment.says("not cached: variable NEW is new");
    let words = text(&|file| file.replace("echo $VERSION", "echo v$VERSION"));
    words.says("not cached: the instruction changed");
    let user = text(&|file| file.replace("ARG VERSION", "USER 7\nARG VERSION").replace("/version", "/tmp/version"));
    assert!(!user.cached().contains(&RUN_VERSION));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_platform_makes_another_layer() {
    let bench = Bench::with(Store::Directory, "FROM scratch\nCOPY main.txt /\n", Habits::default()).await;
    bench.build();
    let other = bench.build_with(&["--custom-platform=linux/s390x"]);
    assert_eq!(other.executed(), 1);
    assert_eq!(bench.build_with(&["--custom-platform=linux/s390x"]).executed(), 0);
    assert_eq!(bench.build().executed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_base_makes_all_steps_other_ones() {
    let bench = Bench::with(Store::Directory, "FROM base\nRUN echo x > /x\n", Habits::default()).await;
    let base = |content: &str| {
        let layout = bench.workspace.out().join(format!("base-{content}"));
        let base = Workspace::new(&format!("FROM {}\nCOPY file /file\nLABEL l={content}\n", peers().busybox()));
        base.file("file", content);
        run(base.build().args(["--no-push", "--oci-layout-path"]).arg(&layout)).success();
        format!("--build-context=base=oci-layout://{}", layout.display())
    };
    let (one, other) = (base("one"), base("other"));
    assert_eq!(bench.build_with(&[&one]).executed(), 1);
    assert_eq!(bench.build_with(&[&one]).executed(), 0);
    let changed = bench.build_with(&[&other]);
    assert_eq!(changed.executed(), 1);
    changed.says("not cached: the base image changed");
}

/// Times, owners, the place of the checkout, its order on disk, the number of threads and the time of day are not in a key.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_change_a_step() {
    let bench = Bench::new(Store::Registry).await;
    bench.build();
    let other = Workspace::new(&DOCKERFILE.replace("{base}", &peers().busybox()));
    other
        .file(".dockerignore", ".dockerignore\nDockerfile\n")
        .file("lib/a.txt", "a\n")
        .file("main.txt", "main\n")
        .file("req.txt", "1\n");
    for name in ["req.txt", "main.txt", "lib", "lib/a.txt"] {
        let path = other.context().join(name);
        std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
        run(Command::new("touch").args(["-d", "2031-02-03 04:05:06.789"]).arg(&path)).success();
    }
    let mut command = bench.command_of(&other);
    command.args(["--parallel=1"]).env("HTTP_PROXY", "").env("TZ", "Asia/Kathmandu");
    // A proxy is where the build runs, not what it makes.
    command.args(["--build-arg=HTTPS_PROXY=http://user:sesame@proxy.example:1", "--build-arg=no_proxy=*"]);
    let built = Built(run(&mut command).success());
    assert_eq!(built.executed(), 0, "{}", built.said());
    let path = other.context().join("main.txt");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let built = Built(run(&mut bench.command_of(&other)).success());
    built.says("context file main.txt changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ignore_file_takes_out_does_not_count() {
    let bench = Bench::new(Store::Directory).await;
    bench.workspace.file(".dockerignore", "notes\nDockerfile\n.dockerignore\n").file("notes", "1");
    bench.build();
    bench.workspace.file("notes", "2");
    assert_eq!(bench.build().executed(), 0);
}

/// A command that ran again, and led to the same files to be copied: the copy is taken from the cache, found by its content.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_files_are_found_behind_a_step_that_ran_again() {
    for store in STORES {
        let dockerfile = "FROM {base} AS build\nCOPY main.txt /in\nRUN wc -l < /in > /out\n\
                          FROM {base}\nCOPY --from=build /out /out\nRUN cat /proc/sys/kernel/random/uuid > /id\n";
        let bench = Bench::with(store, dockerfile, Habits::default()).await;
        bench.build();
        let layers = bench.image_layers();
        // Another file of as many lines.
        bench.workspace.file("main.txt", "another\n");
        let built = bench.build();
        assert_eq!(
            built.cached(),
            ["COPY --from=build /out /out", "RUN cat /proc/sys/kernel/random/uuid > /id"],
            "{}",
            built.said()
        );
        assert_eq!(bench.image_layers(), layers);
        // And is found before anything runs from now on.
        let built = bench.build();
        assert_eq!(built.executed(), 0, "{}", built.said());
        assert!(!built.said().contains("[build"), "{}", built.said());
    }
}

/// What stands alone does not care what it is laid over.
#[tokio::test(flavor = "multi_thread")]
async fn linked_copies_are_found_on_any_base() {
    let dockerfile = "FROM {base}\nARG X=1\nRUN echo $X > /x\nCOPY --link lib /lib/new\n";
    let bench = Bench::with(Store::Registry, dockerfile, Habits::default()).await;
    bench.build();
    let built = bench.build_with(&["--build-arg=X=2"]);
    assert_eq!(built.cached(), ["COPY --link lib /lib/new"], "{}", built.said());
    let ended = Built(run(bench.command().args(["--build-arg=X=2"])).success());
    assert_eq!(ended.executed(), 0);
}

/// The same image, digest and all, whether it was built, built with a cache, or taken from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cached_image_is_the_image() {
    let dockerfile = "FROM {base} AS base\nENV A=1\nRUN echo $A > /a\nFROM base\nWORKDIR /w\nCOPY . .\nLABEL l=1\n\
                      RUN echo b > b\nUSER 7\n";
    let bench = Bench::with(Store::Registry, dockerfile, Habits::default()).await;
    let fixed = |command: &mut Command| {
        run(command.arg("--reproducible").env("SOURCE_DATE_EPOCH", "1700000000")).success();
        bench.registry.manifest("app", "1").unwrap()
    };
    let destination = format!("--destination={}/app:1", bench.registry.host());
    let plain = fixed(bench.workspace.build().arg(&destination));
    assert_eq!(fixed(&mut bench.command()), plain);
    assert_eq!(fixed(&mut bench.command()), plain);
    assert_eq!(bench.registry.count("GET", "/v2/cache/blobs/"), 0);
    // Other times in the layers are another form of them.
    let built = bench.build();
    assert_eq!(built.executed(), 4, "{}", built.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_say_what_is_kept() {
    for (flags, keys, executed) in [
        (&["--cache-copy-layers=false"][..], 6, 4),
        (&["--cache-copy-layers=true"], 12, 0),
        (&["--cache-run-layers=false"], 2, 7),
        (&["--no-push-cache"], 0, 7),
        (&["--no-cache"], 8, 7),
    ] {
        let bench = Bench::new(Store::Registry).await;
        bench.build_with(flags);
        assert_eq!(bench.keys().len(), keys, "{flags:?}");
        assert_eq!(bench.build_with(flags).executed(), executed, "{flags:?}");
    }
}

/// Nothing is asked of anybody without the flag.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_there_is_no_cache() {
    let bench = Bench::new(Store::Registry).await;
    let mut command = bench.workspace.build();
    command.args(["--cache-repo", &bench.place.to_string(), "--no-push"]);
    run(&mut command).success();
    assert_eq!(bench.registry.seen().len(), 0);
}

/// A secret changes no key and is nowhere; a file from a server counts by what the server calls it.
#[tokio::test(flavor = "multi_thread")]
async fn mounts_count_by_their_words_and_by_the_files_they_show() {
    let dockerfile = "FROM {base}\nRUN --mount=type=secret,id=s --mount=type=cache,target=/c \
                      --mount=type=bind,source=lib,target=/lib/bound cat /lib/bound/* > /copied\n";
    let bench = Bench::with(Store::Registry, dockerfile, Habits::default()).await;
    let secret = |value: &str| {
        bench.workspace.file("secret", value);
        let source = format!("--secret=id=s,src={}", bench.workspace.context().join("secret").display());
        bench.build_with(&[&source, "-v=trace"])
    };
    secret("sesame-one");
    let built = secret("sesame-two");
    assert_eq!(built.executed(), 0, "{}", built.said());
    assert!(!built.said().contains("sesame"));
    bench.workspace.file("lib/a.txt", "other");
    let built = secret("sesame-two");
    assert_eq!(built.executed(), 1);
    built.says("context file lib/a.txt changed");
}

/// A copy behind a command that is not carried out again is laid on a tree whose files nobody unpacks, unless names are looked
/// up in it.
#[tokio::test(flavor = "multi_thread")]
async fn copies_behind_cached_commands_are_as_without_a_cache() {
    let users = "RUN mkdir -p /etc /home/app/in && echo app:x:77:78::/:/bin/sh >> /etc/passwd && ln -s /home/app/in /in && ln /bin/busybox /home/app/busybox\n";
    for copies in ["COPY main.txt /in/\nCOPY --chown=7:8 lib /home/app\n", "COPY --chown=app main.txt /in/\n"] {
        let dockerfile = format!("FROM {{base}}\n{users}{copies}");
        let bench = Bench::with(Store::Directory, &dockerfile, Habits::default()).await;
        bench.build_with(&["--reproducible"]);
        bench.workspace.file("main.txt", "edited\n").file("lib/a.txt", "edited\n");
        let edited = bench.build_with(&["--reproducible"]);
        assert_eq!(edited.cached().len(), 1, "{}", edited.said());
        let layers = bench.image_layers();
        bench.build_with(&["--reproducible", "--no-cache", "--no-push-cache"]);
        assert_eq!(bench.image_layers(), layers, "{copies}");
    }
}

/// The times in a layer are limited with `--reproducible`. A step over cached files finds those times, and so it does over files that
/// were made in the same build.
#[tokio::test(flavor = "multi_thread")]
async fn limited_times_are_the_same_in_a_layer_and_in_the_files() {
    let made = "FROM {base} AS made\nRUN echo be > /y\nFROM {base}\n";
    let first = format!("{made}COPY --from=made /y /g\n");
    let bench = Bench::with(Store::Directory, &first, Habits::default()).await;
    bench.build_with(&["--reproducible", "--cache-copy-layers"]);
    let dockerfile = std::fs::read_to_string(bench.workspace.context().join("Dockerfile")).unwrap();
    let edited = dockerfile.replace("> /y", "> /y; :") + "RUN stat -c %Y /g > /time\nCOPY --from=made /y /g\n";
    bench.workspace.file("Dockerfile", &edited);
    let cached = bench.build_with(&["--reproducible", "--cache-copy-layers"]);
    assert_eq!(cached.cached(), ["COPY --from=made /y /g"], "{}", cached.said());
    let layers = bench.image_layers();
    bench.build_with(&["--reproducible", "--no-cache", "--no-push-cache"]);
    assert_eq!(bench.image_layers(), layers);
}

/// Names are bytes: two that are not UTF-8 are two names, wherever they are read.
#[tokio::test(flavor = "multi_thread")]
async fn files_whose_names_are_no_text_are_told_apart() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let copied = "FROM {base}\nCOPY d /d\nRUN --mount=type=bind,source=d,target=/m ls /m > /names\n";
    let bench = Bench::with(Store::Directory, copied, Habits::default()).await;
    bench.workspace.file("d/plain", "");
    let named = |byte: u8| bench.workspace.context().join("d").join(OsStr::from_bytes(&[b'a', byte]));
    std::fs::write(named(0xff), "").unwrap();
    bench.build();
    std::fs::rename(named(0xff), named(0xfe)).unwrap();
    let renamed = bench.build();
    assert_eq!(renamed.executed(), 2, "{}", renamed.said());
    renamed.says(r"context file d/a\xfe is new, context file d/a\xff was removed");

    let made =
        "FROM {base} AS made\nRUN mkdir /d && touch /d/a$(printf '\\\\377')\nFROM scratch\nCOPY --from=made /d /d\n";
    let bench = Bench::with(Store::Directory, made, Habits::default()).await;
    let layer = bench.build().executed();
    assert_eq!(layer, 2);
    let first = bench.image_layers();
    let dockerfile = std::fs::read_to_string(bench.workspace.context().join("Dockerfile")).unwrap();
    bench.workspace.file("Dockerfile", &dockerfile.replace("377", "376"));
    assert_eq!(bench.build().executed(), 2);
    assert_ne!(bench.image_layers(), first);
}

/// A proxy that the Dockerfile declares is a variable like any other: its value can be in the layer.
#[tokio::test(flavor = "multi_thread")]
async fn a_declared_proxy_counts() {
    let text = "FROM {base}\nARG HTTP_PROXY=http://a\nRUN echo $HTTP_PROXY > /proxy\n";
    let bench = Bench::with(Store::Directory, text, Habits::default()).await;
    bench.build();
    assert_eq!(bench.build_with(&["--build-arg=http_proxy=http://elsewhere"]).executed(), 0, "the other is not");
    bench.build_with(&["--build-arg=HTTP_PROXY=http://b"]).says("not cached: variable HTTP_PROXY changed");
}

/// Neither the number of named contexts nor the mode of a checkout says anything of a step.
#[tokio::test(flavor = "multi_thread")]
async fn accidents_of_a_command_line_and_a_checkout_do_not_count() {
    let text = "FROM {base}\nCOPY --from=files one /one\nRUN --mount=target=/m cat /m/main.txt > /main\n\
                RUN --mount=from=files,target=/m cat /m/one > /two\nRUN --mount=type=cache,target=/c,id=a : > /c/a\n";
    let bench = Bench::with(Store::Directory, text, Habits::default()).await;
    let directory = |name: &str| {
        let path = bench.workspace.out().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("one"), name).unwrap();
        format!("--build-context={name}={}", path.display())
    };
    let (files, unused) = (directory("files"), directory("unused"));
    bench.build_with(&[&files]);
    for arguments in [&[files.as_str(), unused.as_str()][..], &[unused.as_str(), files.as_str()]] {
        let built = bench.build_with(arguments);
        assert_eq!(built.executed(), 0, "{}", built.said());
    }
    for path in [bench.workspace.context(), bench.workspace.out().join("files")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).unwrap();
    }
    let built = bench.build_with(&[&files]);
    assert_eq!(built.executed(), 0, "{}", built.said());
    let dockerfile = std::fs::read_to_string(bench.workspace.context().join("Dockerfile")).unwrap();
    bench.workspace.file("Dockerfile", &dockerfile.replace("id=a", "id=b"));
    let built = bench.build_with(&[&files]);
    assert_eq!(built.executed(), 0, "{}", built.said());
}
