//! Reads the bodies of responses, within limits of size and time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

use super::body::RESPONSE_LIMIT;
use super::error::RegistryError;

/// The longest pause between two chunks of a body.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the next chunk of a body, within the time limit.
pub(super) async fn next_chunk(
    response: &mut Response,
    operation: &str,
    host: &str,
) -> Result<Option<Bytes>, RegistryError> {
    tokio::time::timeout(CHUNK_TIMEOUT, response.chunk())
        .await
        .map_err(|_elapsed| RegistryError::Stalled {
            operation: operation.to_owned(),
            host: host.to_owned(),
            idle: CHUNK_TIMEOUT,
        })?
        .map_err(|error| RegistryError::from_http(operation, host, error))
}

/// Reads a complete body of at most `limit` bytes.
pub(super) async fn read_bounded(
    mut response: Response,
    limit: usize,
    operation: &str,
    host: &str,
) -> Result<Vec<u8>, RegistryError> {
    let started = Instant::now();
    let mut body = Vec::new();
    while let Some(chunk) = next_chunk(&mut response, operation, host).await? {
        if body.len() + chunk.len() > limit {
            return Err(RegistryError::Protocol {
                operation: operation.to_owned(),
                host: host.to_owned(),
                problem: format!("sends more than {limit} bytes where a small document is expected"),
            });
        }
        body.extend_from_slice(&chunk);
        if started.elapsed() > RESPONSE_LIMIT {
            let idle = RESPONSE_LIMIT;
            return Err(RegistryError::Stalled { operation: operation.to_owned(), host: host.to_owned(), idle });
        }
    }
    Ok(body)
}
