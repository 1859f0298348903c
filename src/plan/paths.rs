//! Computes paths of an image as text.

/// Returns `path` relative to `current`, cleaned of `.`, `..` and doubled slashes.
pub(super) fn absolute(current: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("/{current}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn working_directories_are_cleaned() {
        for (current, path, expected) in [
            ("", "/", "/"),
            ("/", "a/b/", "/a/b"),
            ("/a", "../b", "/b"),
            ("/a", "", "/a"),
            ("/a", "/x/./y//z/..", "/x/y"),
            ("", "../../x", "/x"),
        ] {
            assert_eq!(absolute(current, path), expected);
        }
    }
}
