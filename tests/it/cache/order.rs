//! What happens beside what, and how often.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::support::web::{Answer, Web};

/// How many root directories below a work directory have this entry.
fn roots_with(work: &Path, entry: &str) -> usize {
    let below = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let roots = below(work).into_iter().flat_map(|build| below(&build));
    roots.filter(|root| root.join(entry).is_dir()).count()
}

/// The base of the last stage is there before what is copied into it: neither a cold build nor one behind an edit waits for
/// the one to begin with the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_base_is_prepared_while_another_stage_works() {
    let bench = Bench::with(Store::Registry, "FROM {base}\nRUN mkdir /marker\n", Habits::default()).await;
    let base = format!("{}/base:1", bench.registry.host());
    run(bench.workspace.build().arg(format!("--destination={base}"))).success();
    let digests: Manifest = serde_json::from_slice(&bench.registry.manifest("base", "1").unwrap()).unwrap();
    let work = bench.workspace.out().join("work");
    // Comes only when both bases are there.
    let web = Web::serve(move |asked, _| {
        let begun = Instant::now();
        while asked.method == "GET" && roots_with(&work, "marker") < 2 {
            if begun.elapsed() > Duration::from_secs(60) {
                return Answer::status(404);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Answer::ok("content").header("ETag", "\"1\"")
    });
    let dockerfile = format!(
        "FROM {base} AS build\nCOPY main.txt /in\nADD {} /file\nRUN cat /in /file > /out\n\
         FROM {base}\nRUN echo runtime > /runtime\nCOPY --from=build /out /out\n",
        web.url("/file")
    );
    bench.workspace.file("Dockerfile", &dockerfile);
    let fetched = || -> Vec<usize> {
        let layers = digests.layers.iter().map(|layer| format!("/v2/base/blobs/{}", layer.digest));
        layers.map(|path| bench.registry.count("GET", &path)).collect()
    };
    assert_eq!(bench.build().executed(), 5);
    assert_eq!(fetched(), [1, 1], "once for both stages");
    bench.workspace.file("main.txt", "edited\n");
    let edited = bench.build();
    assert_eq!(edited.cached(), ["RUN echo runtime > /runtime"], "{}", edited.said());
    assert_eq!(fetched(), [1, 1], "as often as by the first build");
    assert_eq!(bench.build().executed(), 0);
    assert_eq!(bench.registry.count("GET", "/blobs/"), 0, "nothing of the base but its manifest");
}
