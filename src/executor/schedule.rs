//! Schedules stages: each runs after the stage that it starts from, and a limited number of them at a time.
//!
//! A stage waits for the stages that it copies from only when it reaches that step, so that the runtime stage of a
//! Dockerfile is prepared while the compiler of a different stage works. While it waits, it gives up its slot. Threads
//! take the first stage that can start. A stage only waits for earlier ones, and the first unfinished stage waits for
//! none, so there is no deadlock. With one thread, stages run in the order of the file.

use parking_lot::{Condvar, Mutex};

/// The stack size of a stage's thread. Walking a tree recurses to the depth of its directories; memory is used only to
/// that depth.
const STACK_SIZE: usize = 64 << 20;
/// Threads in addition to the number of slots, for stages that wait.
const WAITING_THREADS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StageState {
    Open,
    Taken,
    Done,
}

struct SchedulerState<E> {
    stages: Vec<StageState>,
    /// The numbers of free slots.
    slots: Vec<usize>,
    errors: Vec<E>,
    /// A thread panicked. Its stage never finishes.
    panicked: bool,
}

/// The state of all stages, shared by the threads.
pub(super) struct Scheduler<E> {
    state: Mutex<SchedulerState<E>>,
    changed: Condvar,
}

impl<E> Scheduler<E> {
    /// Reports whether a stage failed, so that the results of the others are not needed.
    pub(super) fn is_cancelled(&self) -> bool {
        self.state.lock().is_cancelled()
    }

    /// Reports whether `stage` is done.
    pub(super) fn is_done(&self, stage: usize) -> bool {
        self.state.lock().stages[stage] == StageState::Done
    }

    /// Waits until `stage` is done, and returns `false` if it never will be. If the caller has to wait, it gives up its
    /// slot and may have a different one afterwards.
    pub(super) fn wait_for(&self, stage: usize, slot: &mut Slot) -> bool {
        let mut state = self.state.lock();
        let is_over = |state: &SchedulerState<E>| state.is_cancelled() || state.stages[stage] == StageState::Done;
        if !is_over(&state) {
            state.slots.extend(slot.0.take());
            self.changed.notify_all();
        }
        loop {
            if state.is_cancelled() {
                return false;
            }
            if is_over(&state) {
                slot.0 = slot.0.or_else(|| state.slots.pop());
                if slot.0.is_some() {
                    return true;
                }
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits for a stage that can start and a free slot, and takes both. Returns `None` if no more stages will start.
    fn next(&self, bases: &[Option<usize>]) -> Option<(usize, Slot)> {
        let mut state = self.state.lock();
        loop {
            let is_open = |stage: &usize| state.stages[*stage] == StageState::Open;
            if state.is_cancelled() || !(0..bases.len()).any(|stage| is_open(&stage)) {
                return None;
            }
            let can_begin = |stage: &usize| {
                is_open(stage) && bases[*stage].is_none_or(|base| state.stages[base] == StageState::Done)
            };
            if let Some(stage) = (0..bases.len()).find(can_begin)
                && let Some(slot) = state.slots.pop()
            {
                state.stages[stage] = StageState::Taken;
                return Some((stage, Slot(Some(slot))));
            }
            self.changed.wait(&mut state);
        }
    }
}

impl<E> SchedulerState<E> {
    fn is_cancelled(&self) -> bool {
        !self.errors.is_empty() || self.panicked
    }
}

/// The right to run: there are as many as stages may run at a time. `None` while its stage waits, and after a failed
/// wait.
#[derive(Debug)]
pub(super) struct Slot(Option<usize>);

impl Slot {
    /// Returns its number, from 0.
    pub(super) fn number(&self) -> usize {
        self.0.unwrap_or(0)
    }
}

/// Wakes the other threads when a stage ends, also by a panic.
struct WakeOnDrop<'a, E>(&'a Scheduler<E>);

impl<E> Drop for WakeOnDrop<'_, E> {
    fn drop(&mut self) {
        self.0.state.lock().panicked |= std::thread::panicking();
        self.0.changed.notify_all();
    }
}

/// Calls `work` for every stage with its number and its slot. `slots` is the number of slots; the calling thread works,
/// too. `bases[stage]` is the stage, with a lower number, that must be done first. `failed` is called after an error is
/// visible to all threads.
///
/// Returns the errors in the order in which they occurred. No stage starts after the first error; running ones are
/// waited for.
pub(super) fn run<E: Send>(
    bases: &[Option<usize>],
    slots: usize,
    work: impl Fn(usize, &mut Slot, &Scheduler<E>) -> Result<(), E> + Sync,
    failed: impl Fn() + Sync,
) -> Vec<E> {
    let slots = slots.max(1);
    let stages = vec![StageState::Open; bases.len()];
    // The lowest number is taken first.
    let state = SchedulerState { stages, slots: (0..slots).rev().collect(), errors: Vec::new(), panicked: false };
    let scheduler = Scheduler { state: Mutex::new(state), changed: Condvar::new() };
    let worker = || {
        while let Some((stage, mut slot)) = scheduler.next(bases) {
            let _wake = WakeOnDrop(&scheduler);
            let done = work(stage, &mut slot, &scheduler);
            scheduler.state.lock().slots.extend(slot.0);
            match done {
                Ok(()) => scheduler.state.lock().stages[stage] = StageState::Done,
                Err(error) => {
                    scheduler.state.lock().errors.push(error);
                    failed();
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 1..slots.saturating_add(WAITING_THREADS).min(bases.len()) {
            let worker = &worker;
            let thread = std::thread::Builder::new().name(format!("stage-{number}")).stack_size(STACK_SIZE);
            if let Err(error) = thread.spawn_scoped(scope, worker) {
                // Fewer threads suffice.
                tracing::debug!("failed to start a thread: {error}");
                break;
            }
        }
        worker();
    });
    scheduler.state.into_inner().errors
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_thread_runs_stages_in_order() {
        let order = Mutex::new(Vec::new());
        let done = run(
            &[None, None, Some(0), None],
            1,
            |stage, slot, _| {
                assert_eq!(slot.number(), 0);
                order.lock().push(stage);
                Ok::<(), ()>(())
            },
            || {},
        );
        assert_eq!((done, order.into_inner()), (vec![], vec![0, 1, 2, 3]));
    }

    #[test]
    fn independent_stages_run_at_once() {
        // Each waits for the others: run one after the other, they would never finish.
        let barrier = Barrier::new(3);
        let done = run(
            &[None, None, None, Some(2)],
            3,
            |stage, slot, scheduler| {
                if stage < 3 {
                    barrier.wait();
                } else {
                    assert!(scheduler.wait_for(0, slot) && scheduler.wait_for(1, slot));
                }
                Ok::<(), ()>(())
            },
            || {},
        );
        assert_eq!(done, vec![]);
    }

    #[test]
    fn a_waiting_stage_gives_up_its_slot() {
        // The two in the middle wait for each other, while the last one, started together with the first, waits for
        // both.
        let (barrier, begun) = (Barrier::new(2), Barrier::new(2));
        let done = run(
            &[None, Some(0), Some(0), None],
            2,
            |stage, slot, scheduler| {
                match stage {
                    0 => drop(begun.wait()),
                    3 => {
                        begun.wait();
                        assert!(scheduler.wait_for(1, slot) && scheduler.wait_for(2, slot));
                    }
                    _ => drop(barrier.wait()),
                }
                assert!(slot.number() < 2);
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
            |stage, slot, scheduler| {
                begun.fetch_add(1, Ordering::Relaxed);
                barrier.wait();
                if stage == 0 {
                    return Err(stage);
                }
                assert!(!scheduler.wait_for(0, slot) && scheduler.is_cancelled());
                Ok(())
            },
            || _ = failures.fetch_add(1, Ordering::Relaxed),
        );
        assert_eq!((result, begun.into_inner(), failures.into_inner()), (vec![0], 2, 1));
    }

    proptest! {
        #[test]
        fn every_stage_runs_once_and_there_is_no_deadlock(
            needs in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..12),
            slots in 1_usize..5,
        ) {
            // The first is the base, the others are waited for by steps.
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
            let result = run(&bases, slots, |stage, slot, scheduler| {
                let base_done = bases[stage].is_none_or(|base| done.lock()[base] == 1);
                let others_done = needs[stage].iter().all(|needed| scheduler.wait_for(*needed, slot));
                done.lock()[stage] += 1;
                if base_done && others_done { Ok(()) } else { Err(stage) }
            }, || {});
            prop_assert_eq!(result, Vec::<usize>::new());
            prop_assert!(done.into_inner().into_iter().all(|times| times == 1));
        }
    }
}
