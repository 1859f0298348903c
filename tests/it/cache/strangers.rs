//! A cache that others can write to, and the secret that keeps them out (`--cache-key-file`).

use super::*;

const DOCKERFILE: &str = "FROM {base}\nRUN echo first > /first\nRUN echo built from source > /app\nCOPY main.txt /main\n\
                          RUN --mount=type=cache,target=/kept echo once >> /kept/times && cat /app /kept/times > /all\n";
const SECRET: &str = "4c1b5e2f sesame secret of the cache";
/// The annotation that holds the code.
const CODE: &str = "dev.crabwright.cache.hmac-sha256";

struct Guarded {
    bench: Bench,
    key_file: PathBuf,
}

impl Guarded {
    async fn new(store: Store) -> Self {
        Self::with(store, DOCKERFILE).await
    }

    async fn with(store: Store, dockerfile: &str) -> Self {
        let bench = Bench::with(store, dockerfile, Habits::default()).await;
        let key_file = bench.workspace.out().join("key");
        std::fs::write(&key_file, format!("{SECRET}\n")).unwrap();
        Self { bench, key_file }
    }

    fn build(&self) -> Built {
        self.build_with(&[])
    }

    fn build_with(&self, arguments: &[&str]) -> Built {
        let key_file = format!("--cache-key-file={}", self.key_file.display());
        self.bench.build_with(&[&[key_file.as_str()], arguments].concat())
    }
}

/// What tells of entries that are not used.
const TOLD: &str = "is ignored, as are others like it";

#[tokio::test(flavor = "multi_thread")]
async fn only_those_with_the_secret_are_believed() {
    for store in STORES {
        let guarded = Guarded::new(store).await;
        let bench = &guarded.bench;
        // What others left before there was a secret.
        bench.build();
        let built = guarded.build();
        assert_eq!(built.executed(), 4, "{store:?}: {}", built.said());
        built.says(TOLD).says("it has no authentication code");
        assert_eq!(built.said().matches(TOLD).count(), 1, "{}", built.said());
        let again = guarded.build();
        assert_eq!(again.executed(), 0, "{store:?}: {}", again.said());
        assert!(!again.said().contains(TOLD), "{}", again.said());
        let tags = bench.place.tags();
        let signed = tags.iter().filter(|tag| bench.place.manifest(tag).annotations.contains_key(CODE));
        // Four entries, the record of the build and what is known of its base.
        assert!(signed.count() >= 6, "{store:?}: {tags:?}");
        // Those without one believe as before.
        assert_eq!(bench.build().executed(), 0);
        std::fs::write(&guarded.key_file, "another secret, as long").unwrap();
        let other = guarded.build();
        assert_eq!(other.executed(), 4, "{store:?}: {}", other.said());
        other.says("its authentication code is not that of --cache-key-file");
    }
}

/// Layers of other entries, and entries of other keys, with everything about them made to fit as far as that goes without the
/// secret.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_planted() {
    for store in STORES {
        for planted in ["a layer", "an entry"] {
            let text = "FROM {base}\nRUN echo first > /first\nRUN echo built from source > /app\n";
            let guarded = Guarded::with(store, text).await;
            let bench = &guarded.bench;
            guarded.build();
            let layers = bench.image_layers();
            let of_layer = |number: usize| -> Vec<(String, Manifest)> {
                let all = bench.keys().into_iter().map(|key| (key.clone(), bench.place.manifest(&key)));
                all.filter(|(_, manifest)| manifest.layers[0].digest == layers[number]).collect()
            };
            let (victims, strangers) = (of_layer(2), of_layer(1));
            for (key, mut victim) in victims {
                let (_, mut other) = strangers[0].clone();
                let fake = match planted {
                    "a layer" => {
                        victim.layers = other.layers;
                        victim.config = other.config;
                        victim
                    }
                    _ => {
                        let code = other.annotations[CODE].clone();
                        other.annotations = victim.annotations;
                        other.annotations.insert(CODE.to_owned(), code);
                        other
                    }
                };
                bench.place.damage_manifest(&key, &fake.to_bytes().unwrap());
            }
            if planted == "a layer" {
                // Nothing else keeps it out.
                let deceived = bench.build_with(&["--no-push-cache"]);
                assert_eq!(deceived.executed(), 0, "{}", deceived.said());
                assert_eq!(bench.image_layers()[2], layers[1]);
            }
            let built = guarded.build();
            built.says(TOLD);
            assert_eq!(built.executed(), 1, "{store:?}, {planted}: {}", built.said());
            assert_eq!(bench.image_layers()[1], layers[1], "{store:?}, {planted}");
            assert_ne!(bench.image_layers()[2], layers[1], "{store:?}, {planted}");
            assert_eq!(guarded.build().executed(), 0, "{store:?}, {planted}");
        }
    }
}

/// What commands keep in their caches is held to the same.
#[tokio::test(flavor = "multi_thread")]
async fn caches_of_commands_need_the_secret() {
    for store in STORES {
        let guarded = Guarded::new(store).await;
        let bench = &guarded.bench;
        let mounts = format!("--cache-mounts-repo={}", bench.place);
        let fresh = || {
            let work = bench.workspace.out().join("work");
            std::fs::remove_dir_all(work).unwrap();
            bench.workspace.file("main.txt", &bench.registry.seen().len().to_string());
        };
        bench.build_with(&[&mounts]).says("cache mount /kept: exported");
        fresh();
        let built = guarded.build_with(&[&mounts]);
        assert!(!built.said().contains("cache mount /kept: imported"), "{store:?}: {}", built.said());
        built.says("it has no authentication code").says("cache mount /kept: exported");
        fresh();
        guarded.build_with(&[&mounts]).says("cache mount /kept: imported");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_stays_where_it_is() {
    let guarded = Guarded::new(Store::Registry).await;
    let built = guarded.build_with(&["-v=trace"]);
    assert!(!built.said().contains("sesame"), "{}", built.said());
    for (name, content) in guarded.bench.registry.contents() {
        assert!(!content.windows(6).any(|bytes| bytes == b"sesame"), "{name}");
    }
    std::fs::write(&guarded.key_file, "short").unwrap();
    let mut command = guarded.bench.command();
    command.arg(format!("--cache-key-file={}", guarded.key_file.display()));
    run(&mut command).refused(1, &["--cache-key-file", "5 bytes can be guessed", "openssl rand -hex 32"]);
}
