//! Which inputs a key contains.

use super::*;
use crate::dockerfile::ast::Source;
use crate::dockerfile::parse;
use crate::image::{BaseImage, Descriptor, ImageConfig, LayerDescriptor, Manifest, media_type};
use crate::plan::{ImageError, ImageRequest, Images, NamedContext, NamedSource, Options, plan};

/// Every image exists, with one layer that its name decides. The configuration of `liar` claims to be that of `base`.
struct AllImages;

impl Images for AllImages {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        let image = |request: &ImageRequest| {
            let name = request.reference.to_string();
            let mut config = ImageConfig::default();
            config.set_platform(&request.platform);
            BaseImage {
                reference: request.reference.clone(),
                digest: Digest::sha256_of(name.as_bytes()),
                manifest: Manifest::oci(Descriptor::of(media_type::OCI_CONFIG, b"{}"), Vec::new()),
                config,
                config_bytes: Vec::new(),
                layers: vec![LayerDescriptor {
                    descriptor: Descriptor::of(media_type::OCI_LAYER_GZIP, name.as_bytes()),
                    diff_id: Digest::sha256_of(name.replace("liar", "base").as_bytes()),
                }],
            }
        };
        requests.iter().map(|request| Ok(image(request))).collect()
    }
}

/// One build with all inputs of its keys.
#[derive(Clone)]
struct Build {
    text: String,
    options: Options,
    format: LayerFormat,
    /// The files of the build context.
    files: Files,
    version: SourceVersion,
}

fn build(text: &str) -> Build {
    Build {
        text: text.to_owned(),
        options: Options::of_platform("linux/amd64"),
        format: LayerFormat { compression: "gzip".to_owned(), ..LayerFormat::default() },
        files: vec![("main.txt".to_owned(), Digest::sha256_of(b"main"))],
        version: SourceVersion::Commit("1".to_owned()),
    }
}

impl Build {
    fn with_argument(mut self, name: &str, value: &str) -> Self {
        self.options.build_args.push((name.to_owned(), value.to_owned()));
        self
    }

    fn plan(&self) -> Plan {
        let source = Source { name: "Dockerfile".into(), text: self.text.clone() };
        plan(&parse(source).unwrap(), &self.options, &mut AllImages).unwrap()
    }

    /// Returns the inputs of all steps that make layers.
    fn key_inputs(&self) -> Vec<KeyInputs> {
        let plan = self.plan();
        let all = definition_inputs(&plan, &self.format, &mut |StepId { stage, step }| {
            let action = &plan.stages[stage].steps[step].action;
            let files = action.origins().into_iter().map(|from| match from {
                CopyFrom::Context | CopyFrom::Directory(_) => Some(self.files.clone()),
                CopyFrom::Stage(_) | CopyFrom::Image(_) => None,
            });
            let remotes = match action {
                Action::Copy(copy) => copy.remotes.keys().map(|number| (*number, self.version.clone())).collect(),
                _ => BTreeMap::new(),
            };
            Some(Inputs { files: files.collect(), versions: remotes })
        });
        all.into_iter().flatten().flatten().collect()
    }

    /// Returns the key of the last step.
    fn key(&self) -> Key {
        self.key_inputs().last().unwrap().key()
    }
}

fn key(text: &str) -> Key {
    build(text).key()
}

#[test]
fn inputs_of_a_command() {
    let reference = key("FROM base\nRUN make");
    for other in [
        "FROM base\nRUN make all",
        "FROM base\nRUN [\"make\"]",
        "FROM base\nSHELL [\"/bin/bash\", \"-c\"]\nRUN make",
        "FROM base\nRUN <<E\nmake\nE",
        "FROM base\nRUN --network=none make",
        "FROM other\nRUN make",
        "FROM --platform=linux/arm64 base\nRUN make",
        "FROM scratch\nRUN make",
        "FROM base\nUSER 7\nRUN make",
        "FROM base\nWORKDIR /w\nRUN make",
        "FROM base\nENV A=1\nRUN make",
        "FROM base\nENV A=2\nRUN make",
        "FROM base\nENV A=\nRUN make",
        "FROM base\nARG A=1 B\nRUN make",
        "FROM base\nCOPY main.txt /\nRUN make",
        "FROM base\nRUN true\nRUN make",
        "FROM base\nRUN --mount=type=tmpfs,target=/t make",
        "FROM base\nRUN --mount=type=tmpfs,target=/t,size=7 make",
        "FROM base\nRUN --mount=type=tmpfs,target=/u make",
        "FROM base\nRUN --mount=type=cache,target=/c make",
        "FROM base\nRUN --mount=type=cache,target=/c,id=d make",
        "FROM base\nRUN --mount=type=cache,target=/c,sharing=locked make",
        "FROM base\nRUN --mount=type=cache,target=/c,uid=7 make",
        "FROM base\nRUN --mount=type=cache,target=/c,readonly make",
        "FROM base\nRUN --mount=type=secret,id=s make",
        "FROM base\nRUN --mount=type=secret,id=t make",
        "FROM base\nRUN --mount=type=secret,id=s,env=S make",
        "FROM base\nRUN --mount=type=secret,id=s,required make",
        "FROM base\nRUN --mount=type=ssh make",
        "FROM base\nRUN --mount=target=/m make",
        "FROM base\nRUN --mount=target=/m,source=sub make",
        "FROM base\nRUN --mount=target=/m,rw make",
        "FROM base\nRUN --mount=from=other,target=/m make",
    ]
    .map(key)
    {
        assert_ne!(other, reference);
    }
}

/// Different steps have different keys, however their words are composed.
#[test]
fn keys_of_different_steps_differ() {
    let words = ["a", "b", "a b", "ab", "a  b", "b a"];
    let forms = words.iter().flat_map(|word| {
        [
            format!("FROM base\nRUN {word}"),
            format!("FROM base\nENV A=\"{word}\"\nRUN x"),
            format!("FROM base\nARG A=\"{word}\"\nENV B=$A\nRUN x"),
            format!("FROM base\nCOPY [\"main.txt\", \"/{word}\"]\nRUN x"),
            format!("FROM base\nRUN <<E\n{word}\nE"),
            format!("FROM base\nCOPY <<E /f\n{word}\nE\nRUN x"),
        ]
    });
    let mut texts: BTreeMap<Key, String> = BTreeMap::new();
    for text in forms {
        if let Some(other) = texts.insert(key(&text), text.clone()) {
            panic!("{text:?} is {other:?}");
        }
    }
}

#[test]
fn not_inputs_of_a_command() {
    let text = "FROM base\nRUN make";
    let reference = key(text);
    for same in [
        "# a comment\nFROM   base\nRUN   make",
        "FROM base AS name\nRUN make",
        "from base\nrun make",
        "FROM base\nLABEL a=b\nRUN make",
        "FROM base\nCMD [\"x\"]\nENTRYPOINT [\"x\"]\nEXPOSE 80\nSTOPSIGNAL 9\nVOLUME /v\nRUN make",
        "FROM base\nHEALTHCHECK CMD x\nONBUILD RUN x\nMAINTAINER x\nRUN make",
        "ARG GLOBAL=1\nFROM base\nRUN make",
        "ARG IMAGE=base\nFROM $IMAGE\nRUN make",
        "FROM base\nARG DECLARED\nRUN make",
        "FROM other AS unused\nRUN x\nFROM base\nRUN make",
        "FROM base AS parent\nFROM parent\nRUN make",
    ] {
        assert_eq!(key(same), reference, "{same}");
    }
    let arguments = [
        ("UNUSED", "1"),
        ("HTTP_PROXY", "http://user:sesame@proxy.example"),
        ("no_proxy", "*"),
        ("SOURCE_DATE_EPOCH", "1700000000"),
        ("BUILDKIT_INLINE_CACHE", "1"),
    ];
    for (name, value) in arguments {
        assert_eq!(build(text).with_argument(name, value).key(), reference, "{name}");
    }
    let mut labelled = build(text);
    labelled.options.labels.push(("a".to_owned(), "b".to_owned()));
    assert_eq!(labelled.key(), reference);
}

#[test]
fn arguments_count_where_they_are_declared() {
    let text = "FROM base\nRUN first\nARG VERSION=1\nRUN make";
    let (one, two) = (build(text), build(text).with_argument("VERSION", "2"));
    assert_eq!(one.key_inputs()[0].key(), two.key_inputs()[0].key(), "above");
    assert_ne!(one.key(), two.key());
    assert_eq!(build(text).with_argument("VERSION", "1").key(), one.key(), "the default, specified explicitly");
    // An `ENV` of the same name overrides it.
    let hidden = "FROM base\nARG VERSION=1\nENV VERSION=7\nRUN make";
    assert_eq!(build(hidden).with_argument("VERSION", "2").key(), key(hidden));
    // Commands see it even if it is not declared.
    assert_ne!(build(text).with_argument("BUILDKIT_SANDBOX_HOSTNAME", "name").key(), one.key());
    // If it is declared, it is a variable like any other.
    for name in ["SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE", "HTTP_PROXY", "no_proxy"] {
        let declared = format!("FROM base\nARG {name}=1\nRUN make");
        assert_ne!(build(&declared).with_argument(name, "2").key(), key(&declared), "{name}");
        assert_ne!(key(&format!("FROM base\nARG {name}=2\nRUN make")), key(&declared), "{name}");
        let inherited = format!("FROM base AS one\nARG {name}=1\nFROM one\nRUN make");
        assert_ne!(build(&inherited).with_argument(name, "2").key(), key(&inherited), "{name}");
    }
    // Its other spelling, which a command sees as well, is not declared.
    let declared = "FROM base\nARG HTTP_PROXY=1\nRUN make";
    assert_eq!(build(declared).with_argument("http_proxy", "2").key(), key(declared));
    // It has no value that could count.
    let empty = "FROM base\nARG HTTP_PROXY\nRUN make";
    assert_eq!(build(empty).with_argument("http_proxy", "2").key(), key(empty));
    // A proxy in an `ENV` is part of the image.
    assert_ne!(key("FROM base\nENV HTTP_PROXY=a\nRUN make"), key("FROM base\nENV HTTP_PROXY=b\nRUN make"));
}

#[test]
fn the_id_of_a_cache_mount_does_not_count() {
    let cache = |words: &str| key(&format!("FROM base\nRUN --mount=type=cache,target=/c{words} make"));
    assert_eq!(cache(",id=d"), cache(""));
    let mut other = build("FROM base\nRUN --mount=type=cache,target=/c make");
    other.options.build_args.push(("BUILDKIT_CACHE_MOUNT_NS".to_owned(), "n".to_owned()));
    assert_eq!(other.key(), cache(""));
    for words in [",sharing=private", ",uid=7", ",mode=0700", ",readonly", ",from=other"] {
        assert_ne!(cache(words), cache(""), "{words}");
    }
}

#[test]
fn named_contexts_count_by_their_names() {
    let with = |names: &[&str]| {
        let mut build = build("FROM base\nCOPY --from=files main.txt /m\nRUN --mount=from=files,target=/f make");
        let directories = names.iter().enumerate();
        build.options.contexts = directories
            .map(|(number, name)| NamedContext { name: (*name).to_owned(), source: NamedSource::Directory(number) })
            .collect();
        build.key_inputs()
    };
    let reference = with(&["files"]);
    for others in [&["unused", "files"][..], &["files", "unused"]] {
        assert_eq!(with(others), reference, "{others:?}");
    }
    let names: Vec<&str> = reference[0].ingredients().iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"build context files file main.txt"), "{names:?}");
}

#[test]
fn inputs_of_a_copy() {
    let reference = key("FROM base\nCOPY main.txt /m");
    let others = [
        "FROM base\nADD main.txt /m",
        "FROM base\nADD --unpack=false main.txt /m",
        "FROM base\nCOPY main.txt /n",
        "FROM base\nCOPY main.txt /m/",
        "FROM base\nCOPY --chown=7 main.txt /m",
        "FROM base\nCOPY --chown=7:8 main.txt /m",
        "FROM base\nCOPY --chmod=600 main.txt /m",
        "FROM base\nCOPY --link main.txt /m",
        "FROM base\nCOPY --parents main.txt /m",
        "FROM base\nCOPY --exclude=x main.txt /m",
        "FROM base\nCOPY main.* /m",
        "FROM base\nCOPY --from=other main.txt /m",
        "FROM base AS other\nRUN x\nFROM base\nCOPY --from=other main.txt /m",
        "FROM base AS other\nRUN y\nFROM base\nCOPY --from=other main.txt /m",
        "FROM other\nCOPY main.txt /m",
    ];
    let mut keys: Vec<Key> = others.map(key).into();
    let mut edited = build("FROM base\nCOPY main.txt /m");
    edited.files[0].1 = Digest::sha256_of(b"edited");
    keys.push(edited.key());
    let mut more = build("FROM base\nCOPY main.txt /m");
    more.files.push(("second".to_owned(), Digest::sha256_of(b"main")));
    keys.push(more.key());
    more.files.remove(0);
    keys.push(more.key());
    more.files.clear();
    keys.push(more.key());
    keys.push(reference);
    let different: std::collections::BTreeSet<&Key> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
    // A copy does not depend on variables and users.
    let same = key("FROM base\nENV A=1\nARG B=2\nUSER 7\nCOPY main.txt /m");
    assert_eq!(same, key("FROM base\nCOPY main.txt /m"));
}

#[test]
fn independent_steps_do_not_depend_on_their_base() {
    let link = key("FROM base\nCOPY --link main.txt /m");
    for below in ["FROM other", "FROM scratch", "FROM base\nRUN x", "FROM --platform=linux/arm64 base"] {
        assert_eq!(key(&format!("{below}\nCOPY --link main.txt /m")), link, "{below}");
    }
    // The steps after it do.
    let above = |base: &str| key(&format!("FROM {base}\nCOPY --link main.txt /m\nRUN x"));
    assert_ne!(above("base"), above("other"));
    assert_ne!(above("base"), key("FROM base\nRUN x"));
}

#[test]
fn remote_sources_count_by_their_version() {
    let add = |url: &str, version: SourceVersion| {
        let mut build = build(&format!("FROM base\nADD {url} /m"));
        build.version = version;
        build.key()
    };
    let text = |text: &str| text.to_owned();
    let url = "https://example.com/file";
    let versions = [
        SourceVersion::Tag(text("1")),
        SourceVersion::Tag(text("2")),
        SourceVersion::Modified(text("1")),
        SourceVersion::Content(Digest::sha256_of(b"1")),
    ];
    let keys: Vec<Key> = versions.map(|version| add(url, version)).into();
    let different: std::collections::BTreeSet<&Key> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
    // The file is the same for every login; a different query may select a different file.
    let login = |login: &str| add(&format!("https://{login}@example.com/file"), SourceVersion::Tag(text("1")));
    assert_eq!(login("user:sesame"), login("user:another"));
    assert_ne!(add("https://example.com/file?x", SourceVersion::Tag(text("1"))), keys[0]);
    let commit = |url: &str, commit: &str| add(url, SourceVersion::Commit(commit.to_owned()));
    let repository = "https://example.com/app.git#main";
    assert_ne!(commit(repository, "1"), commit(repository, "2"));
    assert_ne!(commit(repository, "1"), commit("https://example.com/app.git#main:sub", "1"));
    assert_ne!(commit(repository, "1"), commit(&format!("--keep-git-dir {repository}"), "1"));
    assert_ne!(commit(repository, "1"), commit("https://example.com/app.git?branch=main&submodules=false", "1"));
}

/// Names of ingredients are stored in the cache and must not contain passwords.
#[test]
fn ingredients_are_named_without_credentials() {
    let text = "FROM base\nADD https://user:sesame@example.com/file?signature=sesame /m\n\
                ADD https://user:sesame@example.com/app.git /n\nRUN --mount=type=secret,id=s make";
    let build = build(text).with_argument("HTTPS_PROXY", "http://user:sesame@proxy.example");
    let key_inputs = build.key_inputs();
    assert_eq!(key_inputs.len(), 3);
    for (name, _) in key_inputs.iter().flat_map(KeyInputs::ingredients) {
        assert!(!name.contains("sesame"), "{name}");
    }
}

/// A `COPY` does not read the content of its base's files, so they are not verified against the diffIDs. Through a link
/// in such a base it makes a layer that builds on the genuine image must not find.
#[test]
fn an_image_that_claims_diff_ids_does_not_get_their_keys() {
    let keys = |base: &str| {
        let build = build(&format!("FROM {base}\nCOPY main.txt /app/"));
        let plan = build.plan();
        let layers: Vec<Digest> = plan.images[0].layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let files = vec![Some(build.files.clone())];
        let content =
            content_inputs(&plan, StepId { stage: 0, step: 0 }, &build.format, &layers, files, &BTreeMap::new())
                .unwrap();
        (layers, build.key(), content.key())
    };
    let (honest, liar) = (keys("base"), keys("liar"));
    assert_eq!(honest.0, liar.0);
    assert_ne!(honest.1, liar.1);
    assert_ne!(honest.2, liar.2);
}

#[test]
fn the_format_of_layers_counts() {
    let base = build("FROM base\nCOPY main.txt /m");
    let with = |change: &dyn Fn(&mut LayerFormat)| {
        let mut build = base.clone();
        change(&mut build.format);
        build.key()
    };
    let mut keys = vec![
        base.key(),
        with(&|format| format.compression = "zstd".to_owned()),
        with(&|format| format.level = Some(0)),
        with(&|format| format.level = Some(1)),
        with(&|format| format.left_out = vec![b"/a".to_vec()]),
        with(&|format| format.left_out = vec![b"/a".to_vec(), b"/b".to_vec()]),
        with(&|format| format.clamp_mtime = Some(0)),
        with(&|format| format.clamp_mtime = Some(1)),
    ];
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 8);
}

/// If the inputs of a step are unknown, the steps that build on it have no keys; other steps do.
#[test]
fn steps_that_build_on_unknown_inputs_have_no_key() {
    let build = build(
        "FROM base AS one\nCOPY main.txt /m\nRUN x\nCOPY --link main.txt /l\n\
         FROM base\nRUN y\nCOPY --from=one /m /m\nRUN z",
    );
    let plan = build.plan();
    let all = definition_inputs(&plan, &build.format, &mut |StepId { stage, step }| {
        let is_first = (stage, step) == (0, 0);
        (!is_first).then(|| Inputs { files: vec![Some(build.files.clone())], ..Inputs::default() })
    });
    let known: Vec<Vec<bool>> = all.iter().map(|stage| stage.iter().map(Option::is_some).collect()).collect();
    assert_eq!(known, [vec![false, false, true], vec![true, false, false]]);
}

#[test]
fn content_keys_depend_on_layers_and_files_alone() {
    let text = "FROM base AS one\nRUN x\nFROM base\nRUN make\nCOPY --from=one /m /m";
    let layers = [Digest::sha256_of(b"base"), Digest::sha256_of(b"made")];
    let files = |content: &[u8]| vec![Some(vec![("m".to_owned(), Digest::sha256_of(content))])];
    let of = |text: &str, step: usize, layers: &[Digest], sources: Vec<Option<Files>>| {
        let build = build(text);
        let plan = build.plan();
        content_inputs(&plan, StepId { stage: 1, step }, &build.format, layers, sources, &BTreeMap::new())
            .map(|key_inputs| key_inputs.key())
    };
    let copy = |text: &str, layers: &[Digest], source: &[u8]| of(text, 1, layers, files(source));
    let reference = copy(text, &layers, b"m");
    assert!(reference.is_some());
    // The same files, made by a different command.
    let different = text.replace("RUN x", "RUN y").replace("RUN make", "RUN made");
    assert_eq!(copy(&different, &layers, b"m"), reference);
    assert_ne!(copy(text, &layers, b"n"), reference);
    assert_ne!(copy(text, &layers[..1], b"m"), reference);
    let platform = text.replace("\nFROM base\n", "\nFROM --platform=linux/arm64 base\n");
    assert_ne!(copy(&platform, &layers, b"m"), reference);
    assert_ne!(
        of(text, 0, &layers, Vec::new()),
        of(&different, 0, &layers, Vec::new()),
        "the instruction's words still count"
    );
    assert_eq!(of(text, 1, &layers, vec![None]), None, "unknown files have no key");
    let build = build(text);
    let definition = build.key_inputs().last().map(KeyInputs::key);
    assert_ne!(definition, reference);
}

#[test]
fn names_of_ingredients_distinguish_mounts() {
    let text = "FROM base\nRUN --mount=target=/a --mount=target=/b,source=b --mount=from=other,target=/c make";
    let key_inputs = build(text).key_inputs();
    let names: Vec<&str> = key_inputs[0].ingredients().iter().map(|(name, _)| name.as_str()).collect();
    let mut different = names.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), names.len(), "{names:?}");
    assert!(names.contains(&"context file main.txt (mount 2)"), "{names:?}");
}
