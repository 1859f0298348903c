//! Wrappers keep the hint of the error that they wrap.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::builder::layouts::LayoutImageError;
use crate::cache::WarmError;
use crate::diag::BoxedError;
use crate::dockerfile::ast::Source;
use crate::executor::cache_mounts::error::CacheArchiveError;
use crate::executor::{DirectoryError, StepError, UserError};
use crate::image::archive::ArchiveError;
use crate::image::docker_archive_reader::DockerArchiveError;
use crate::image::layout::LayoutError;
use crate::image::{Digest, Platform, Reference};
use crate::layer::LayerError;
use crate::registry::credentials::CredentialsError;
use crate::rootfs::{MemberError, RootfsError};
use crate::snapshot::SnapshotError;
use crate::{executor, fs, rootfs};

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

fn file() -> fs::Error {
    fs::Error::new("write", "/file", full())
}

fn tree() -> RootfsError {
    file().into()
}

fn layout() -> LayoutError {
    file().into()
}

fn layer() -> LayerError {
    LayerError::Compress { source: full() }
}

fn copy() -> CopyError {
    tree().into()
}

fn sandbox() -> SandboxError {
    SandboxError::Leave { source: Box::new(file().into()) }
}

fn download() -> DownloadError {
    DownloadError::Final(Box::new(file().into()))
}

fn text() -> String {
    "something".to_owned()
}

fn path() -> PathBuf {
    PathBuf::from("/path")
}

fn digest() -> Digest {
    Digest::sha256_of(b"")
}

fn reference() -> Reference {
    Reference::parse("reg.example/app:1").unwrap()
}

fn unavailable() -> RegistryError {
    RegistryError::NoPlatform { reference: text(), wanted: Box::new(Platform::host()), available: Vec::new() }
}

fn failed_step(cause: StepError) -> BuildError {
    let source_file = Arc::new(Source { name: text(), text: "RUN make\n".to_owned() });
    ExecutorError::Step { text: text(), source_file, span: 0..8, cause }.into()
}

fn in_cache(error: impl Into<LayerCacheError>) -> BuildError {
    BuildError::Cache(error.into())
}

/// All of these pass on the hint of the registry's error. Transparent ones are not its `source`.
#[test]
fn wrappers_keep_the_hint_of_a_registry() {
    let boxed = || Box::new(unavailable());
    let (repository, destination, output) = (Box::new(reference()), Box::new(reference()), path());
    let wrappers: Vec<BoxedError> = vec![
        BuildError::Registry(unavailable()).into(),
        in_cache(unavailable()).into(),
        WarmError::Registry(unavailable()).into(),
        BuildError::Push(PushError::Blob { repository, source: boxed() }).into(),
        BuildError::Push(PushError::Manifest { destination, written: Vec::new(), source: boxed() }).into(),
        BuildError::Push(PushError::Permission(boxed())).into(),
        FilesError::Output(PushError::Fetch { digest: digest(), output, source: boxed() }).into(),
        BuildError::Files(FilesError::Fetch {
            digest: digest(),
            target: crate::push::Target::Path(path()),
            source: unavailable(),
        })
        .into(),
        BuildError::Execute(ExecutorError::Fetch { image: text(), digest: digest(), cause: unavailable().into() })
            .into(),
        BuildError::Execute(ExecutorError::CachedLayer {
            digest: digest(),
            cause: LayerCacheError::from(unavailable()).into(),
        })
        .into(),
    ];
    for wrapper in wrappers {
        assert_eq!(wrapper.hint(), unavailable().hint(), "{wrapper:?}");
    }
    assert!(unavailable().hint().is_some());
}

/// The same for a full file system, which every module can meet.
#[test]
fn wrappers_keep_the_hint_of_a_full_file_system() {
    let build: Vec<BuildError> = vec![
        ContextError::from(file()).into(),
        file().into(),
        BuildError::WorkDirectory(file()),
        SshError::Listen { path: path(), source: full() }.into(),
        SecretError::File { id: text(), path: path(), source: full() }.into(),
        BuildError::NoSandbox(sandbox()),
        BuildError::InPlace(sandbox()),
        RegistryError::from(file()).into(),
        RegistryError::Credentials { source: CredentialsError::File(file()) }.into(),
        in_cache(file()),
        in_cache(layout()),
        download().into(),
        DownloadError::from(file()).into(),
        GitError::from(file()).into(),
        GitError::Thread { url: text(), source: full() }.into(),
        GitError::Submodule { path: text(), source: Box::new(file().into()) }.into(),
        BuildError::ContextArchive(copy()),
        TransferError::from(download()).into(),
        BuildError::Unpack { location: text(), source: copy() },
        PushError::from(file()).into(),
        PushError::Layout { path: path(), source: layout() }.into(),
        PushError::Archive { path: path(), source: ArchiveError::Write { entry: text(), source: full() } }.into(),
        PushError::Archive { path: path(), source: ArchiveError::Open { digest: digest(), source: full() } }.into(),
        PushedImageError::Missing { path: path(), source: full() }.into(),
        PushedImageError::Archive(DockerArchiveError::Read { path: path(), source: full() }).into(),
        PushedImageError::Layer { path: path(), member: text(), source: layer() }.into(),
        PushedImageError::Layout { path: path(), source: layout() }.into(),
        FilesError::Read { digest: digest(), source: layer() }.into(),
        FilesError::Unpack { digest: digest(), source: tree() }.into(),
        FilesError::Directory { directory: path(), source: tree() }.into(),
        FilesError::Create(file()).into(),
        FilesError::Archive { target: crate::push::Target::Path(path()), source: layer() }.into(),
        FilesError::Output(file().into()).into(),
        BuildError::Runtime(full()),
        ExecutorError::Stop(sandbox()).into(),
        ExecutorError::ReadLayer { image: text(), digest: digest(), cause: layer() }.into(),
        ExecutorError::Unpack { image: text(), digest: digest(), directory: path(), cause: tree() }.into(),
        ExecutorError::Prepare { stage: text(), cause: tree() }.into(),
        failed_step(StepError::User(UserError::Tree(tree()))),
        failed_step(StepError::User(UserError::Read(file()))),
        failed_step(StepError::Sandbox(sandbox())),
        failed_step(StepError::Copy(copy())),
        failed_step(StepError::Fetch { location: text(), cause: download().into() }),
        failed_step(StepError::Cache(file())),
        failed_step(StepError::Secret(SecretError::File { id: text(), path: path(), source: full() })),
        failed_step(StepError::Agent { id: text(), cause: SshError::Listen { path: path(), source: full() }.into() }),
        failed_step(StepError::Context(file().into())),
        failed_step(StepError::Workdir { path: text(), cause: DirectoryError::Tree(tree()) }),
        failed_step(StepError::Rootfs(tree())),
        failed_step(StepError::Snapshot(SnapshotError::from(file()))),
        failed_step(StepError::ReadLayer(layer())),
        failed_step(StepError::Overlay(tree())),
        failed_step(StepError::Layer(layer())),
    ];
    let unreadable = || rootfs::archive::ArchiveError::Read { position: 0, source: full() };
    let parts: Vec<BoxedError> = vec![
        WarmError::from(file()).into(),
        WarmError::from(layout()).into(),
        LayoutImageError::Layout { reference: reference(), source: layout() }.into(),
        LayerError::from(file()).into(),
        LayerError::Tar { source: full() }.into(),
        LayerError::Read { media_type: text(), source: full() }.into(),
        LayerError::Thread(full()).into(),
        RootfsError::Layer { layer: text(), source: unreadable() }.into(),
        RootfsError::Member {
            layer: text(),
            member: text(),
            source: MemberError::Io { verb: "write file", source: full() },
        }
        .into(),
        CopyError::from(file()).into(),
        CopyError::Owner(UserError::Read(file())).into(),
        CopyError::Archive { archive: text(), source: Box::new(unreadable()) }.into(),
        CopyError::Member {
            archive: text(),
            member: text(),
            source: Box::new(executor::copy::MemberError::Tree(tree())),
        }
        .into(),
        CopyError::NotArchive { archive: text(), source: full() }.into(),
        CacheArchiveError::Archive(unreadable()).into(),
        CacheArchiveError::File(file()).into(),
        CacheArchiveError::Rootfs(tree()).into(),
        CacheArchiveError::Layer(layer()).into(),
        SandboxError::Setup { step: text(), source: full() }.into(),
        SandboxError::WorkingDirectory { path: text(), source: full() }.into(),
    ];
    for wrapper in build.into_iter().map(BoxedError::from).chain(parts) {
        assert_eq!(wrapper.hint(), full().hint(), "{wrapper:?}");
    }
}

#[test]
fn a_wrapper_adds_its_hint_if_the_wrapped_error_has_none() {
    let denied = fs::Error::new("create directory", "/work", io::ErrorKind::PermissionDenied);
    let hint = BuildError::WorkDirectory(denied).hint();
    assert!(hint.is_some_and(|hint| hint.contains("writable directory")));
}
