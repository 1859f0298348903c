//! Fuzz targets: data of a git server, parsed by libgit2 and written by us.

use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use git2::{ObjectType, Oid};
use sha1::{Digest as _, Sha1};
use tokio::runtime::{Builder, Runtime};

use super::fetch::{Access, Fetched, create};
use super::submodules::{Submodules, contains_include, resolve, setting_for};
use super::watch::Watch;
use super::{GitRequest, files};
use crate::diag::progress::Progress;
use crate::fs::gate;
use crate::fuzzing::{Scratch, parts};
use crate::http::{HttpClients, Lead, Pace, RetryPolicy, USER_AGENT};
use crate::location::GitLocation;

/// The most objects of one pack.
const MOST: usize = 64;
/// The most objects that a pack may claim to have.
const CLAIMED: u32 = 1 << 16;

/// The parts that a fetch needs, created once for all inputs.
static CLIENTS: LazyLock<HttpClients> = LazyLock::new(|| HttpClients::new(USER_AGENT).expect("HTTP clients"));
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

/// Parses a pack and writes the files of a commit in it; nothing may appear next to them. The input lists the objects
/// of the pack (see [`packed`]), or is the pack itself, because a fuzzer cannot find checksums and compressed streams.
pub(crate) fn pack(input: &[u8]) {
    let bytes = if input.starts_with(b"PACK") { input.to_vec() } else { packed(input) };
    // The library reserves address space for the number of objects in the header, without using it.
    if bytes.get(8..12).is_some_and(|count| count > &CLAIMED.to_be_bytes()[..]) {
        return;
    }
    // No submodule is fetched, because there is no network.
    let request = GitRequest {
        location: GitLocation::default(),
        secrets: std::sync::Arc::new(|_| None),
        ssh: crate::remote::SshAccess::default(),
        clients: CLIENTS.clone(),
        pace: Pace::default(),
        limits: super::CheckoutLimits { entries: 10_000, bytes: 64 << 20, file: 16 << 20 },
        retry: RetryPolicy::default(),
        progress: Progress::to(std::io::sink()),
    };
    let transfer = request.progress.transfer("fuzzed", None);
    let watch = Watch::new(gate::pass().expect("no sandbox"), RUNTIME.handle().clone(), transfer);
    let access = Access::new(&request, &watch).expect("HTTP clients");
    let scratch = Scratch::new();
    let repository = create(&scratch.path().join("repository"), &watch).expect("repository");
    let store = repository.odb().expect("object store");
    {
        let Ok(mut writer) = store.packwriter() else { return };
        if writer.write_all(&bytes).is_err() || writer.commit().is_err() {
            return;
        }
    }
    let mut commits: Vec<Oid> = Vec::new();
    let listed = store.foreach(|id| {
        if store.read_header(*id).is_ok_and(|(_, kind)| kind == ObjectType::Commit) {
            commits.push(*id);
        }
        true
    });
    drop(store);
    if listed.is_err() {
        return;
    }
    let Some(commit) = commits.pop() else { return };
    let fetched = Fetched { repository, commit, lead: Lead::default(), onward: Lead::default() };
    drop(fetched.commit_time());
    let checkout = Scratch::new();
    checkout.directory("files");
    checkout.work_in("files", |directory| {
        let mut submodules = Submodules::new(&access, checkout.path());
        drop(files::write(&fetched, directory, &request.location, &mut submodules));
    });
}

/// Returns a pack of the objects that `recipe` lists: a byte with the kind, two with the length of the content, the
/// content. The content of a delta starts with the number of its base object.
fn packed(recipe: &[u8]) -> Vec<u8> {
    let mut objects = Vec::new();
    let mut offsets: Vec<usize> = Vec::new();
    let mut rest = recipe;
    while let [kind, high, low, after @ ..] = rest
        && offsets.len() < MOST
    {
        let length = (usize::from(*high) << 8 | usize::from(*low)).min(after.len());
        let (content, next) = after.split_at(length);
        rest = next;
        let kind = [1_u8, 2, 3, 4, 6][usize::from(*kind) % 5];
        let offset = 12 + objects.len();
        let (base, content) = match (kind, content.split_first()) {
            (6, Some((number, content))) if !offsets.is_empty() => {
                (Some(offsets[usize::from(*number) % offsets.len()]), content)
            }
            (6, _) => continue,
            _ => (None, content),
        };
        offsets.push(offset);
        head(&mut objects, kind, content.len());
        if let Some(base) = base {
            back(&mut objects, offset - base);
        }
        let mut deflated = flate2::write::ZlibEncoder::new(&mut objects, flate2::Compression::fast());
        deflated.write_all(content).and_then(|()| deflated.try_finish()).expect("compressed");
    }
    let count = u32::try_from(offsets.len()).unwrap_or_default();
    let mut pack = [b"PACK".as_slice(), &2_u32.to_be_bytes(), &count.to_be_bytes(), &objects].concat();
    pack.extend_from_slice(&Sha1::digest(&pack));
    pack
}

/// Writes kind and size of an object.
fn head(pack: &mut Vec<u8>, kind: u8, size: usize) {
    let mut byte = kind << 4 | (size & 15) as u8;
    let mut size = size >> 4;
    while size > 0 {
        pack.push(byte | 0x80);
        byte = (size & 0x7f) as u8;
        size >>= 7;
    }
    pack.push(byte);
}

/// Writes the distance to the base object of a delta.
fn back(pack: &mut Vec<u8>, mut distance: usize) {
    let mut bytes = vec![(distance & 0x7f) as u8];
    distance >>= 7;
    while distance > 0 {
        distance -= 1;
        bytes.push((distance & 0x7f) as u8 | 0x80);
        distance >>= 7;
    }
    bytes.reverse();
    pack.extend_from_slice(&bytes);
}

/// Reads `.gitmodules`. The input has a submodule's path, the URL of its repository and the file, separated by zero
/// bytes.
pub(crate) fn gitmodules(input: &[u8]) {
    let [path, parent, settings] = parts(input);
    let (Ok(path), Ok(parent)) = (std::str::from_utf8(path), std::str::from_utf8(parent)) else { return };
    if contains_include(settings) {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.file("gitmodules", settings);
    if let Ok(Some(setting)) = setting_for(&file, Path::new(path))
        && let Some(url) = setting.url
    {
        drop(resolve(parent, &url));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_becomes_a_pack() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = RUNTIME.handle().clone();
        let watch = Watch::new(gate::pass().unwrap(), runtime, Progress::to(std::io::sink()).transfer("packed", None));
        let repository = create(&directory.path().join("repository"), &watch).unwrap();
        let store = repository.odb().unwrap();
        // A blob, and a second one: its first five bytes and two more.
        let recipe = [b"\x02\x00\x0bhello world".as_slice(), b"\x04\x00\x08\x00\x0b\x07\x90\x05\x02!!"].concat();
        let mut writer = store.packwriter().unwrap();
        writer.write_all(&packed(&recipe)).unwrap();
        writer.commit().unwrap();
        drop(writer);
        for content in [b"hello world".as_slice(), b"hello!!"] {
            let id = Oid::hash_object(ObjectType::Blob, content).unwrap();
            assert_eq!(repository.find_blob(id).unwrap().content(), content);
        }
    }
}
