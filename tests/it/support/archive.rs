//! Archives as a test wants them, honest or hostile.

use std::io::Write as _;

/// An archive put together member by member, names and fields as wrong as they may be.
#[derive(Default)]
pub(crate) struct Archive(Vec<u8>);

impl Archive {
    /// A build's context, with a Dockerfile that copies everything.
    pub(crate) fn context() -> Self {
        Self::default().file("Dockerfile", "FROM scratch\nCOPY . /\n")
    }

    /// A member of mode 0644; `kind` as in its header.
    pub(crate) fn member(mut self, kind: u8, name: &str, link: &str, content: &[u8]) -> Self {
        self.push(kind, name, link, 0o644, content);
        self
    }

    pub(crate) fn push(&mut self, kind: u8, name: &str, link: &str, mode: u32, content: &[u8]) {
        let mut header = tar::Header::new_ustar();
        {
            let fields = header.as_old_mut();
            fields.name[..name.len()].copy_from_slice(name.as_bytes());
            fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.push_bytes(header.as_bytes());
        self.push_bytes(content);
    }

    /// What is taken as it is, filled up to whole blocks.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.member(b'0', name, "", content.as_ref())
    }

    pub(crate) fn directory(mut self, name: &str, mode: u32) -> Self {
        self.push(b'5', name, "", mode, b"");
        self
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.member(b'2', name, target, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.member(b'1', name, target, b"")
    }

    /// Records for the next member.
    pub(crate) fn pax(self, records: &[u8]) -> Self {
        self.member(b'x', "PaxHeaders", "", records)
    }

    /// The archive with its end.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    pub(crate) fn gzip(&self) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.bytes()).unwrap();
        encoder.finish().unwrap()
    }
}

/// One record of an extended header, which counts its own digits.
pub(crate) fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let digits = (1..).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
    format!("{}{rest}", rest.len() + digits).into_bytes()
}
