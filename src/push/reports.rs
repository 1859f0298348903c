//! Writes the reports of a build for pipelines: BuildKit's metadata and image ID, and the list of images that skaffold
//! requests from kaniko with `BUILDER_OUTPUT`.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::PushError;
use super::digest_files::write_file;
use crate::image::{Descriptor, Digest, Image, Reference};

/// The requested reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reports {
    /// `--metadata-file`.
    pub metadata: Option<PathBuf>,
    /// `--iidfile`.
    pub image_id: Option<PathBuf>,
    /// `BUILDER_OUTPUT`: a directory for the file `images`.
    pub builder_output: Option<PathBuf>,
}

/// The keys of buildx's `--metadata-file` that describe an image.
#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "containerimage.config.digest")]
    config_digest: &'a Digest,
    #[serde(rename = "containerimage.descriptor")]
    descriptor: Descriptor,
    #[serde(rename = "containerimage.digest")]
    digest: Digest,
    #[serde(rename = "image.name", skip_serializing_if = "String::is_empty")]
    name: String,
}

#[derive(Serialize)]
struct PushedImage<'a> {
    name: &'a str,
    digest: &'a Digest,
}

/// Writes the reports of a published image. `names` are all its names, `pushed` those that can be pulled.
///
/// # Errors
/// A file cannot be written.
pub fn write_reports(
    reports: &Reports,
    image: &Image,
    names: &[Reference],
    pushed: &[Reference],
) -> Result<(), PushError> {
    let tagged = |name: &Reference| name.with_tag(name.tag_or_latest());
    if let Some(path) = &reports.metadata {
        let metadata = Metadata {
            config_digest: &image.manifest.config.digest,
            descriptor: image.descriptor(),
            digest: image.digest(),
            name: names.iter().map(|name| tagged(name).to_string()).collect::<Vec<_>>().join(","),
        };
        let mut text = serde_json::to_string_pretty(&metadata).map_err(PushError::Metadata)?;
        text.push('\n');
        write_file(path, &text)?;
    }
    if let Some(path) = &reports.image_id {
        write_file(path, &image.manifest.config.digest.to_string())?;
    }
    if let Some(directory) = &reports.builder_output {
        let digest = image.digest();
        let mut lines = String::new();
        for name in pushed {
            let pushed = PushedImage { name: &tagged(name).familiar(), digest: &digest };
            let line = serde_json::to_string(&pushed).map_err(PushError::Metadata)?;
            // Writing to a string cannot fail.
            writeln!(lines, "{line}").ok();
        }
        write_file(&directory.join("images"), &lines)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageConfig;

    #[test]
    fn reports_have_the_keys_that_tools_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        let image = Image::assemble(ImageConfig::default(), Vec::new()).unwrap();
        let names = ["app", "r.example:5000/team/app:v1"].map(|text| Reference::parse(text).unwrap());
        let reports = Reports {
            metadata: Some(at("new/metadata.json")),
            image_id: Some(at("id")),
            builder_output: Some(at("output")),
        };
        write_reports(&reports, &image, &names, &names[1..]).unwrap();
        let metadata: serde_json::Value = serde_json::from_str(&read("new/metadata.json")).unwrap();
        let (digest, config) = (image.digest().to_string(), image.manifest.config.digest.to_string());
        assert_eq!(metadata["containerimage.digest"], digest);
        assert_eq!(metadata["containerimage.config.digest"], config);
        assert_eq!(metadata["containerimage.descriptor"]["digest"], digest);
        assert_eq!(metadata["containerimage.descriptor"]["size"], image.manifest_bytes.len());
        assert_eq!(metadata["image.name"], "docker.io/library/app:latest,r.example:5000/team/app:v1");
        assert_eq!(read("id"), config);
        assert_eq!(
            read("output/images"),
            format!("{{\"name\":\"r.example:5000/team/app:v1\",\"digest\":\"{digest}\"}}\n")
        );
    }

    #[test]
    fn an_image_without_a_name_has_no_name_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m");
        let image = Image::assemble(ImageConfig::default(), Vec::new()).unwrap();
        write_reports(&Reports { metadata: Some(path.clone()), ..Reports::default() }, &image, &[], &[]).unwrap();
        assert!(!std::fs::read_to_string(path).unwrap().contains("image.name"));
    }
}
