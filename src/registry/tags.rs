//! Reads, lists and deletes tags of a repository of ours, without their images.

use std::time::Duration;

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Url};

use super::access::{Access, Purpose};
use super::answer::read_bounded;
use super::body::Payload;
use super::client::Client;
use super::error::RegistryError;
use super::pull::{MANIFEST_TYPES, check, get_document};
use super::transport::Request;
use crate::image::{Descriptor, Reference};

/// The most bytes of a page of tags.
const MAX_PAGE: usize = 16 << 20;
/// The number of tags to request at a time.
const PAGE: usize = 1000;
/// The most pages; more are the error of a server.
const MAX_PAGES: usize = 10_000;
/// The most bytes of memory for all tags: some hundred thousand of the longest.
const MAX_TAGS: usize = 64 << 20;
/// The time limit for the complete list.
const TIME_LIMIT: Duration = Duration::from_secs(1800);

impl Client {
    /// Reads the manifest that a tag or digest names, verified if its digest is known; `None` if it does not exist.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses.
    pub async fn read_manifest(&self, reference: &Reference) -> Result<Option<Vec<u8>>, RegistryError> {
        let operation = format!("read {reference}");
        let access = Access::pull(&reference.repository);
        let (operation, access) = (operation.as_str(), &access);
        let path = format!("{}/manifests/{}", reference.repository, reference.manifest_reference());
        let path = path.as_str();
        let read = self.with_endpoint(reference, Purpose::Pull, operation, |endpoint| async move {
            let document = get_document(&endpoint, path, Some(MANIFEST_TYPES), access, operation).await?;
            if let Some(expected) = &reference.digest {
                check(&endpoint.origin.host, operation, expected, None, &document.bytes)?;
            }
            Ok(document.bytes)
        });
        match read.await {
            Err(error) if error.status() == Some(404) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Reports whether a repository to read from has the blob. If the registry does not support HEAD, the blob is
    /// assumed to exist, because fetching it will tell.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses.
    pub async fn has_blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<bool, RegistryError> {
        let operation = format!("look for blob {} of {}", descriptor.digest, reference.without_tag());
        let access = Access::pull(&reference.repository);
        let (operation, access) = (operation.as_str(), &access);
        let path = format!("{}/blobs/{}", reference.repository, descriptor.digest);
        let path = path.as_str();
        self.with_endpoint(reference, Purpose::Pull, operation, |endpoint| async move {
            let url = endpoint.url(path, operation)?;
            let request = Request { method: Method::HEAD, ..get(url, access, operation) };
            let response = endpoint.expect(&request, &[200, 404, 405, 501]).await?;
            let length = response.headers().get(reqwest::header::CONTENT_LENGTH);
            let length = length.and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
            let status = response.status().as_u16();
            Ok(status != 404 && (status != 200 || length.is_none_or(|length| length == descriptor.size)))
        })
        .await
    }

    /// Returns all tags of a repository; none if it does not exist.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses, or its list of tags is missing or endless.
    pub async fn tags(&self, repository: &Reference) -> Result<Vec<String>, RegistryError> {
        let listed = tokio::time::timeout(TIME_LIMIT, self.list_tags(repository)).await;
        listed.unwrap_or_else(|_elapsed| {
            Err(endless(repository, &format!("takes more than {} minutes", TIME_LIMIT.as_secs() / 60)))
        })
    }

    async fn list_tags(&self, repository: &Reference) -> Result<Vec<String>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let operation = format!("list the tags of {}", repository.without_tag());
        let access = Access::pull(&repository.repository);
        let (operation, access) = (operation.as_str(), &access);
        let first = format!("{}/tags/list?n={PAGE}", repository.repository);
        let (mut tags, mut next, mut size): (Vec<String>, Option<Url>, usize) = (Vec::new(), None, 0);
        for _ in 0..MAX_PAGES {
            let (first, asked) = (first.as_str(), &next);
            let page = self.with_endpoint(repository, Purpose::Pull, operation, |endpoint| async move {
                let url = match asked {
                    Some(url) => url.clone(),
                    None => endpoint.url(first, operation)?,
                };
                let response = endpoint.expect(&get(url.clone(), access, operation), &[200]).await?;
                let link = response.headers().get(LINK).and_then(|value| value.to_str().ok());
                // Only the query is taken from the server; the rest of the URL is ours.
                let following = link.and_then(next_page).and_then(|target| url.join(&target).ok()).map(|target| {
                    let mut following = url.clone();
                    following.set_query(target.query());
                    following
                });
                let body = read_bounded(response, MAX_PAGE, operation, &endpoint.origin.host).await?;
                let page: Page = serde_json::from_slice(&body)
                    .map_err(|error| endpoint.protocol(operation, format!("sent no list of tags: {error}")))?;
                Ok((page.tags.unwrap_or_default(), following))
            });
            let (found, following) = match page.await {
                Err(error) if error.status() == Some(404) => return Ok(tags),
                other => other?,
            };
            size += found.iter().map(|tag| size_of::<String>() + tag.len()).sum::<usize>();
            if size > MAX_TAGS {
                return Err(endless(repository, &format!("needs more than {MAX_TAGS} bytes")));
            }
            tags.extend(found);
            if following.is_none() || following == next {
                return Ok(tags);
            }
            next = following;
        }
        Err(endless(repository, &format!("has more than {MAX_PAGES} pages")))
    }

    /// Deletes the manifest of a digest, with all its tags; `false` if it does not exist.
    ///
    /// # Errors
    /// The registry cannot be reached, or does not delete.
    pub async fn delete_manifest(&self, reference: &Reference) -> Result<bool, RegistryError> {
        let operation = format!("delete {reference}");
        let access = Access::delete(&reference.repository);
        let (operation, access) = (operation.as_str(), &access);
        let path = format!("{}/manifests/{}", reference.repository, reference.manifest_reference());
        let path = path.as_str();
        self.with_endpoint(reference, Purpose::Push, operation, |endpoint| async move {
            let url = endpoint.url(path, operation)?;
            let request = Request { method: Method::DELETE, ..get(url, access, operation) };
            let response = endpoint.expect(&request, &[200, 202, 204, 404]).await?;
            Ok(response.status().as_u16() != 404)
        })
        .await
    }
}

fn endless(repository: &Reference, problem: &str) -> RegistryError {
    RegistryError::Protocol {
        operation: format!("list the tags of {}", repository.without_tag()),
        host: repository.registry_host().to_owned(),
        problem: format!("has a list of tags that {problem}"),
    }
}

fn get<'a>(url: Url, access: &'a Access, operation: &'a str) -> Request<'a> {
    Request { method: Method::GET, url, headers: HeaderMap::new(), payload: Payload::None, access, operation }
}

/// Returns the target of the `next` link (RFC 8288), as distribution writes it: `</v2/…>; rel="next"`.
pub(super) fn next_page(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            parameter == "rel=\"next\"" || parameter == "rel=next"
        });
        is_next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::next_page;

    #[test]
    fn the_next_page_is_found_among_links() {
        assert_eq!(
            next_page("</v2/a/tags/list?last=b&n=2>; rel=\"next\"").as_deref(),
            Some("/v2/a/tags/list?last=b&n=2")
        );
        assert_eq!(next_page("<x>; rel=\"prev\", <y>; title=a; rel=next").as_deref(), Some("y"));
        assert_eq!(next_page("<x>; rel=\"prev\""), None);
        assert_eq!(next_page("nothing"), None);
    }
}
