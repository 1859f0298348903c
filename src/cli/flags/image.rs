//! The flags of what an image says of itself.

use std::collections::BTreeMap;

use clap::ArgAction;

use crate::cli::values::{image_format, pair};
use crate::image::ImageFormat;

/// Labels, annotations and the format of the manifest.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct ImageFlags {
    /// A label of the image; it overrides that of the Dockerfile. Repeatable.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true, action = ArgAction::Append)]
    pub label: Vec<String>,

    /// An annotation of the image's manifest. Repeatable.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true, action = ArgAction::Append)]
    pub annotation: Vec<String>,

    /// The format of the image's manifest, whatever the base image has: oci or docker.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "oci",
        hide_possible_values = true,
        value_parser = image_format()
    )]
    pub image_format: ImageFormat,
}

/// A value of one of these flags that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageFlagError {
    /// A label.
    #[error("--label {text:?} is not of the form key=value")]
    Label {
        /// As given.
        text: String,
    },
    /// An annotation.
    #[error("--annotation {text:?} is not of the form key=value")]
    Annotation {
        /// As given.
        text: String,
    },
    /// Docker's manifests have no place for annotations.
    #[error("--annotation needs --image-format oci: Docker's manifests have no annotations")]
    DockerAnnotation,
}

impl ImageFlags {
    /// Returns the labels in their order.
    ///
    /// # Errors
    /// One has no key.
    pub(crate) fn labels(&self) -> Result<Vec<(String, String)>, ImageFlagError> {
        let label = |text: &String| pair(text).ok_or_else(|| ImageFlagError::Label { text: text.clone() });
        self.label.iter().map(label).collect()
    }

    /// Returns the annotations.
    ///
    /// # Errors
    /// One has no key, or the format has no annotations.
    pub(crate) fn annotations(&self) -> Result<BTreeMap<String, String>, ImageFlagError> {
        if self.image_format == ImageFormat::Docker && !self.annotation.is_empty() {
            return Err(ImageFlagError::DockerAnnotation);
        }
        let annotation = |text: &String| pair(text).ok_or_else(|| ImageFlagError::Annotation { text: text.clone() });
        self.annotation.iter().map(annotation).collect()
    }
}
