//! The parts of a build on their own: unpacking, finding changes, writing a layer, compressing. `cargo bench --bench micro`.

mod material;

use std::hint::black_box;

use crabwright::layer::{Compression, LayerOptions, write};
use crabwright::rootfs::Tree;
use crabwright::snapshot::{Options, compare};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const FILES: usize = 2_000;
const SIZE: usize = 20_000;

fn tree(name: &str, directory: &tempfile::TempDir, archive: &[u8]) -> Tree {
    let mut tree = Tree::create(directory.path().join(name)).expect("tree");
    tree.apply_layer("base", archive).expect("unpacked");
    tree
}

fn unpack(criterion: &mut Criterion) {
    let archive = material::archive(FILES, SIZE, 100);
    let directory = tempfile::tempdir().expect("directory");
    let mut group = criterion.benchmark_group("unpack");
    group.sample_size(10).throughput(Throughput::Elements(FILES as u64));
    let mut round = 0;
    group.bench_function("files", |bencher| {
        bencher.iter_batched(
            || {
                round += 1;
                format!("tree-{round}")
            },
            |name| tree(&name, &directory, &archive),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn walk(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("directory");
    let tree = tree("tree", &directory, &material::archive(FILES, 100, 100));
    // What was unpacked within the last tick of the clock is read, which is not what is measured.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("unchanged", |bencher| bencher.iter(|| compare(black_box(&tree), &Options::default())));
    group.finish();
}

fn layers(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("directory");
    let tree = Tree::open(tree("tree", &directory, &material::archive(FILES, SIZE, 100)).path()).expect("tree");
    // Without a baseline everything is new.
    let changes = compare(&tree, &Options::default()).expect("compared");
    let mut group = criterion.benchmark_group("layer");
    group.sample_size(10).throughput(Throughput::Bytes((FILES * SIZE) as u64));
    for (compression, level) in [
        (Compression::Gzip, 1),
        (Compression::Gzip, 5),
        (Compression::Gzip, 6),
        (Compression::Gzip, 9),
        (Compression::Zstd, 1),
        (Compression::Zstd, 3),
    ] {
        let options = LayerOptions { compression, level: Some(level), ..LayerOptions::default() };
        let spool = directory.path().join("layer");
        let size = write(&tree, &changes, &spool, &options).expect("layer").descriptor.size;
        group.bench_function(format!("{compression:?} {level}, {size} bytes").to_lowercase(), |bencher| {
            bencher.iter(|| write(&tree, &changes, &spool, &options).expect("layer"));
        });
    }
    group.finish();
}

criterion_group!(benches, unpack, walk, layers);
criterion_main!(benches);
