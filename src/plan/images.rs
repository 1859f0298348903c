//! The image configurations that a plan needs, and the trait that provides them.

use crate::diag::BoxedError;
use crate::image::{BaseImage, Platform, Reference};

/// An image the plan needs the configuration of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRequest {
    /// Which.
    pub reference: Reference,
    /// For what.
    pub platform: Platform,
}

/// An error of the source of images; the plan adds the place that needs the image.
pub type ImageError = BoxedError;

/// Where image configurations come from.
pub trait Images {
    /// Fetches manifests and configurations, all at once where that is faster; one answer for each request, in order.
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>>;
}
