//! What is measured: archives of as many files as asked for, the same bytes each time.

use std::io::Write as _;

/// An uncompressed layer of `files` files of `size` bytes each, `in_directory` of them in one directory.
pub(crate) fn archive(files: usize, size: usize, in_directory: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut content = Vec::with_capacity(size);
    for number in 0..files {
        if number % in_directory == 0 {
            append(&mut archive, &format!("usr/share/d{}/", number / in_directory), tar::EntryType::Directory, &[]);
        }
        content.clear();
        // Text that compresses about as programs and their data do.
        while content.len() < size {
            let word = (number + content.len()).wrapping_mul(2_654_435_761) % 1_000_003;
            writeln!(content, "{word} stands in file {number}").expect("memory");
        }
        content.truncate(size);
        let path = format!("usr/share/d{}/file-{number}", number / in_directory);
        append(&mut archive, &path, tar::EntryType::Regular, &content);
    }
    archive.into_inner().expect("memory")
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_path(path).expect("a short path");
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.append(&header, content).expect("memory");
}
