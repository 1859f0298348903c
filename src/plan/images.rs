//! The image configurations that a plan needs, and the trait that provides them.

use crate::diag::BoxedError;
use crate::image::{BaseImage, Platform, Reference};

/// An image whose configuration the plan needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRequest {
    /// The image's name.
    pub reference: Reference,
    /// The platform to select.
    pub platform: Platform,
}

/// An error of the image source; the plan adds the location that needs the image.
pub type ImageError = BoxedError;

/// A source of image configurations.
pub trait Images {
    /// Fetches manifests and configurations, possibly in parallel; returns one result for each request, in order.
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>>;
}
