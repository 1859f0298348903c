//! The parts of a build on their own: unpacking, finding changes, writing a layer, compressing. `cargo bench --bench micro`.

#![allow(clippy::disallowed_methods, reason = "no sandbox exchanges the files of benchmarks")]

mod material;

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};

use crabwright::image::Digest;
use crabwright::layer::{Compression, LayerOptions, VerifyingReader, read_ahead, reader, write};
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

/// A compressed layer with one thread, and with several for decompressing, verifying and writing it.
fn unpack_compressed(criterion: &mut Criterion) {
    let archive = material::archive(FILES, SIZE, 100);
    let diff_id = Digest::sha256_of(&archive);
    let directory = tempfile::tempdir().expect("directory");
    let one_member = directory.path().join("one-member");
    let mut encoder = flate2::write::GzEncoder::new(File::create(&one_member).expect("file"), Default::default());
    encoder.write_all(&archive).and_then(|()| encoder.finish()).expect("compressed");
    let packed = Tree::open(tree("packed", &directory, &archive).path()).expect("tree");
    let many_members = directory.path().join("many-members");
    let changes = compare(&packed, &Options::default()).expect("compared");
    let layer = write(&packed, &changes, &many_members, &LayerOptions::default()).expect("layer");
    let mut group = criterion.benchmark_group("unpack compressed");
    group.sample_size(10).throughput(Throughput::Bytes(archive.len() as u64));
    let mut round = 0;
    for (name, path, diff_id, ahead) in [
        ("one thread", &one_member, &diff_id, false),
        ("ahead", &one_member, &diff_id, true),
        ("many members, ahead", &many_members, &layer.diff_id, true),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    round += 1;
                    Tree::create(directory.path().join(format!("tree-{round}"))).expect("tree")
                },
                |mut tree| {
                    let file = File::open(path).expect("file");
                    let content: Box<dyn Read> = if ahead {
                        read_ahead(&(std::sync::Arc::new(file) as _), "", Some(diff_id)).expect("started")
                    } else {
                        Box::new(VerifyingReader::new(reader(file, "").expect("started"), diff_id))
                    };
                    tree.apply_layer("layer", content).expect("unpacked")
                },
                BatchSize::PerIteration,
            );
        });
    }
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

criterion_group!(benches, unpack, unpack_compressed, walk, layers);
criterion_main!(benches);
