//! Which stage runs when: each after the one it starts from, as many at once as there are places.
//!
//! What a stage copies from others it waits for only when it gets there, so that the runtime stage of a Dockerfile is
//! prepared while the compiler of another works; while it waits somebody else has its place. Threads take the first stage
//! that can begin. A stage waits only for those above it, and the topmost unfinished one has nothing to wait for, so the
//! threads never all wait. With one thread the order is that of the file.

use parking_lot::{Condvar, Mutex};

/// Bytes of stack of a stage's thread, of which no more is used than directories lie in each other: what walks a tree goes as
/// deep as it is.
const STACK: usize = 64 << 20;
/// Threads beyond the number of places: for stages that wait.
const WAITING: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Open,
    Taken,
    Done,
}

struct State<E> {
    stages: Vec<Progress>,
    /// Numbers of places that nobody has.
    places: Vec<usize>,
    errors: Vec<E>,
    /// A thread panicked: nobody may wait for its stage.
    broken: bool,
}

/// What the threads know of each other.
pub(super) struct Board<E> {
    state: Mutex<State<E>>,
    changed: Condvar,
}

impl<E> Board<E> {
    /// Whether something failed, so that no stage's result is wanted any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.state.lock().is_given_up()
    }

    /// Whether `stage` is done.
    pub(super) fn is_done(&self, stage: usize) -> bool {
        self.state.lock().stages[stage] == Progress::Done
    }

    /// Waits until `stage` is done; false if it never will be. Whoever has to wait leaves its `place`, and has another one
    /// afterwards.
    pub(super) fn wait_for(&self, stage: usize, place: &mut Slot) -> bool {
        let mut state = self.state.lock();
        let is_over = |state: &State<E>| state.is_given_up() || state.stages[stage] == Progress::Done;
        if !is_over(&state) {
            state.places.extend(place.0.take());
            self.changed.notify_all();
        }
        loop {
            if state.is_given_up() {
                return false;
            }
            if is_over(&state) {
                place.0 = place.0.or_else(|| state.places.pop());
                if place.0.is_some() {
                    return true;
                }
            }
            self.changed.wait(&mut state);
        }
    }

    /// Takes the first stage that can begin, and a place, waiting for both; `None` when there will be no more.
    fn next(&self, bases: &[Option<usize>]) -> Option<(usize, Slot)> {
        let mut state = self.state.lock();
        loop {
            let is_open = |stage: &usize| state.stages[*stage] == Progress::Open;
            if state.is_given_up() || !(0..bases.len()).any(|stage| is_open(&stage)) {
                return None;
            }
            let can_begin =
                |stage: &usize| is_open(stage) && bases[*stage].is_none_or(|base| state.stages[base] == Progress::Done);
            if let Some(stage) = (0..bases.len()).find(can_begin)
                && let Some(place) = state.places.pop()
            {
                state.stages[stage] = Progress::Taken;
                return Some((stage, Slot(Some(place))));
            }
            self.changed.wait(&mut state);
        }
    }
}

impl<E> State<E> {
    fn is_given_up(&self) -> bool {
        !self.errors.is_empty() || self.broken
    }
}

/// The right to work, one of as many as stages may run at a time. Gone only where a wait has failed.
#[derive(Debug)]
pub(super) struct Slot(Option<usize>);

impl Slot {
    /// Which one it is, from 0.
    pub(super) fn number(&self) -> usize {
        self.0.unwrap_or(0)
    }
}

/// Wakes the others when a thread leaves its stage, in whatever way.
struct Leaving<'a, E>(&'a Board<E>);

impl<E> Drop for Leaving<'_, E> {
    fn drop(&mut self) {
        self.0.state.lock().broken |= std::thread::panicking();
        self.0.changed.notify_all();
    }
}

/// Calls `work` for every stage with its number and its place, of which there are `places`; the caller's thread does its share. `bases[stage]` is the stage that must be done before it, one with a lower number. `failed` is called once all can
/// see that an error has been returned.
///
/// Gives the errors of `work` in their order. No stage is begun after the first, and those under way are waited for.
pub(super) fn run<E: Send>(
    bases: &[Option<usize>],
    places: usize,
    work: impl Fn(usize, &mut Slot, &Board<E>) -> Result<(), E> + Sync,
    failed: impl Fn() + Sync,
) -> Vec<E> {
    let places = places.max(1);
    let stages = vec![Progress::Open; bases.len()];
    // The lowest number is given first.
    let state = State { stages, places: (0..places).rev().collect(), errors: Vec::new(), broken: false };
    let board = Board { state: Mutex::new(state), changed: Condvar::new() };
    let worker = || {
        while let Some((stage, mut place)) = board.next(bases) {
            let _leaving = Leaving(&board);
            let done = work(stage, &mut place, &board);
            board.state.lock().places.extend(place.0);
            match done {
                Ok(()) => board.state.lock().stages[stage] = Progress::Done,
                Err(error) => {
                    board.state.lock().errors.push(error);
                    failed();
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 1..places.saturating_add(WAITING).min(bases.len()) {
            let worker = &worker;
            let thread = std::thread::Builder::new().name(format!("stage-{number}")).stack_size(STACK);
            if let Err(error) = thread.spawn_scoped(scope, worker) {
                // Fewer do the same.
                tracing::debug!("cannot start a thread: {error}");
                break;
            }
        }
        worker();
    });
    board.state.into_inner().errors
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_thread_goes_in_order() {
        let order = Mutex::new(Vec::new());
        let done = run(
            &[None, None, Some(0), None],
            1,
            |stage, place, _| {
                assert_eq!(place.number(), 0);
                order.lock().push(stage);
                Ok::<(), ()>(())
            },
            || {},
        );
        assert_eq!((done, order.into_inner()), (vec![], vec![0, 1, 2, 3]));
    }

    #[test]
    fn independent_stages_run_at_once() {
        // Each waits for the others: one after the other they would wait for ever.
        let barrier = Barrier::new(3);
        let done = run(
            &[None, None, None, Some(2)],
            3,
            |stage, place, board| {
                if stage < 3 {
                    barrier.wait();
                } else {
                    assert!(board.wait_for(0, place) && board.wait_for(1, place));
                }
                Ok::<(), ()>(())
            },
            || {},
        );
        assert_eq!(done, vec![]);
    }

    #[test]
    fn who_waits_is_in_nobodys_way() {
        // The two in the middle wait for each other while the last one, begun beside the first, waits for both.
        let (barrier, begun) = (Barrier::new(2), Barrier::new(2));
        let done = run(
            &[None, Some(0), Some(0), None],
            2,
            |stage, place, board| {
                match stage {
                    0 => drop(begun.wait()),
                    3 => {
                        begun.wait();
                        assert!(board.wait_for(1, place) && board.wait_for(2, place));
                    }
                    _ => drop(barrier.wait()),
                }
                assert!(place.number() < 2);
                Ok::<(), ()>(())
            },
            || {},
        );
        assert_eq!(done, vec![]);
    }

    #[test]
    fn the_first_error_stops_the_rest() {
        let (begun, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let barrier = Barrier::new(2);
        let result = run(
            &[None, None, Some(0), Some(1)],
            2,
            |stage, place, board| {
                begun.fetch_add(1, Ordering::Relaxed);
                barrier.wait();
                if stage == 0 {
                    return Err(stage);
                }
                assert!(!board.wait_for(0, place) && board.is_given_up());
                Ok(())
            },
            || _ = failures.fetch_add(1, Ordering::Relaxed),
        );
        assert_eq!((result, begun.into_inner(), failures.into_inner()), (vec![0], 2, 1));
    }

    proptest! {
        #[test]
        fn every_stage_runs_once_and_nobody_waits_for_ever(
            needs in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..12),
            places in 1_usize..5,
        ) {
            // The first is the base, the others are waited for on the way.
            let needs: Vec<Vec<usize>> = needs
                .iter()
                .enumerate()
                .map(|(stage, needed)| match stage {
                    0 => Vec::new(),
                    _ => needed.iter().map(|index| index.index(stage)).collect(),
                })
                .collect();
            let bases: Vec<Option<usize>> = needs.iter().map(|needed| needed.first().copied()).collect();
            let done = Mutex::new(vec![0; needs.len()]);
            let result = run(&bases, places, |stage, place, board| {
                let base_done = bases[stage].is_none_or(|base| done.lock()[base] == 1);
                let others_done = needs[stage].iter().all(|needed| board.wait_for(*needed, place));
                done.lock()[stage] += 1;
                if base_done && others_done { Ok(()) } else { Err(stage) }
            }, || {});
            prop_assert_eq!(result, Vec::<usize>::new());
            prop_assert!(done.into_inner().into_iter().all(|times| times == 1));
        }
    }
}
