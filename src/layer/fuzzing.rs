//! Fuzz targets: layers, compressed and uncompressed.

use std::io::{self, Read};
use std::sync::Arc;

use crate::fs::ReadAt;
use crate::fuzzing::Scratch;
use crate::rootfs::Tree;
use crate::snapshot::{Options, compare};

/// The most bytes of a layer that are read: a few bytes of input may be decompressed for hours.
const MAX_BYTES: u64 = 8 << 20;

/// Unpacks arbitrary bytes as a layer. Nothing outside of the root directory may change. The unpacked tree equals its
/// own baseline.
pub(crate) fn extract(input: &[u8]) {
    Scratch::new().work_in("root", |root| {
        let mut tree = Tree::create(root).expect("tree");
        if tree.apply_layer("fuzzed", input).is_ok() {
            let changes = compare(&tree, &Options::default()).expect("compared");
            assert!(changes.is_empty(), "{changes:?}");
        }
    });
}

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Decompresses arbitrary bytes in several threads, which guess gzip's members, and as one stream. Both must have the
/// same result.
pub(crate) fn decompress(input: &[u8]) {
    let content = |reader: Box<dyn Read + '_>| {
        let mut content = Vec::new();
        reader.take(MAX_BYTES).read_to_end(&mut content).map(|_| content)
    };
    let plain = content(super::reader(input, "fuzzed").expect("a reader"));
    let file: Arc<dyn ReadAt> = Arc::new(Bytes(input.to_vec()));
    let ahead = super::read_ahead(&file, "fuzzed", None).map(|reader| content(reader)).expect("a reader");
    match (plain, ahead) {
        (Ok(plain), Ok(ahead)) => assert!(plain == ahead, "{} and {} bytes", plain.len(), ahead.len()),
        (Err(_), Err(_)) => {}
        (plain, ahead) => panic!("in one piece {:?}, ahead {:?}", plain.map(|b| b.len()), ahead.map(|b| b.len())),
    }
}
