//! Fetches objects from buckets: Amazon S3 and compatible services, Google Cloud Storage, Azure Blob Storage.
//!
//! `object_store` signs requests, gets tokens, and continues interrupted transfers (by range, while the object's ETag
//! is the same). TLS, proxies and time limits are those of every other request, and Amazon's credentials come from the
//! whole chain of its SDK. Error messages of a service are shown without signed parts.

mod azure;
mod clients;
mod error;
mod gcs;
mod opened;
mod s3;
mod variables;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};

pub use error::BucketError;
pub use variables::Variables;

use crate::diag::progress::Progress;
use crate::fs::gate;
use crate::http::{Flow, HttpClients, Pace, SetupError, USER_AGENT};
use crate::location::{BucketLocation, BucketService};
use clients::StoreClients;
use tokio::sync::mpsc::Sender;

/// The time limit for silence within an object.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Sends the pieces of an object to `pieces`, in order. It ends early if the receiver is gone.
///
/// # Errors
/// The object cannot be downloaded completely.
pub(super) async fn stream(
    location: &BucketLocation,
    variables: &Variables,
    progress: &Progress,
    pieces: &Sender<Bytes>,
) -> Result<(), BucketError> {
    let shown = location.to_string();
    // The libraries may read credential files at any time. No command waits for this pass, because buckets contain
    // contexts.
    let _pass = gate::passed().await.map_err(|error| BucketError::Setup(SetupError::Files(error)))?;
    let clients = HttpClients::new(USER_AGENT).map_err(BucketError::Setup)?;
    let clients = StoreClients::new(clients);
    let opened = match &location.service {
        BucketService::S3 => s3::open(location, variables, clients).await?,
        BucketService::Google => gcs::open(location, variables, clients)?,
        BucketService::Azure { account, endpoint, authority, signature } => {
            let blobs = azure::Blobs { account, endpoint, authority, signature: signature.as_ref() };
            azure::open(location, &blobs, variables, clients)?
        }
    };
    let failed = |error| BucketError::new(location, opened.anonymous, &error);
    let key = Path::parse(&location.key).map_err(|error| failed(error.into()))?;
    let found = opened.store.get_opts(&key, GetOptions::default()).await.map_err(failed)?;
    let transfer = progress.transfer(format!("fetch {shown}"), Some(found.meta.size));
    let mut stream = found.into_stream();
    let mut flow = Flow::new(Pace::default());
    loop {
        let asked = Instant::now();
        let Ok(piece) = tokio::time::timeout(SILENCE_LIMIT, stream.next()).await else {
            return Err(BucketError::Stalled { location: shown, idle: SILENCE_LIMIT });
        };
        let Some(piece) = piece else { break };
        let piece = piece.map_err(failed)?;
        if !flow.keeps_pace(asked, piece.len()) {
            return Err(BucketError::Slow { location: shown });
        }
        transfer.add(piece.len() as u64);
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
    }
    transfer.done();
    Ok(())
}
