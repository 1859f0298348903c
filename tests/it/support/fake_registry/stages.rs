//! Every fault, wherever it strikes the requests of a build: a case for each of them, several at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Fault;

/// Where a fault strikes, and how the body of its answer may be damaged there.
pub(crate) struct Stage {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) damages: &'static [Fault],
}

/// What can go wrong at every stage.
fn faults() -> Vec<Fault> {
    let refusals = [401, 403, 404, 500, 502, 503, 504].map(Fault::status);
    refusals.into_iter().chain([Fault::too_many_requests(), Fault::Close]).collect()
}

/// Runs `case` for every fault of every stage, with a name for messages.
pub(crate) async fn each_fault<F: Future<Output = ()> + Send + 'static>(
    stages: &'static [Stage],
    case: impl Fn(&'static Stage, Fault, String) -> F,
) {
    let mut cases = Vec::new();
    for stage in stages {
        for fault in faults().into_iter().chain(stage.damages.iter().cloned()) {
            let name = format!("{} {} {fault:?}", stage.method, stage.path);
            cases.push(case(stage, fault, name));
        }
    }
    side_by_side(cases).await;
}

/// What fails is waited for: so the cases run beside each other.
pub(crate) async fn side_by_side<F: Future<Output = ()> + Send + 'static>(cases: impl IntoIterator<Item = F>) {
    let mut running = JoinSet::new();
    // The machine has other things to do.
    let turns = Arc::new(Semaphore::new(8));
    for case in cases {
        let turns = Arc::clone(&turns);
        running.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            case.await;
        });
    }
    assert!(!running.join_all().await.is_empty());
}
