//! What a writer's handles are told, and when.

use super::*;
use crate::ledger::{Handle, Writer};

/// Asks for a step, in a turn of its own.
async fn record(handle: &Handle, step: Transition) -> Result<(), LedgerError> {
    let (written, ()) = futures::join!(handle.record(step), async { handle.send() });
    written
}

#[tokio::test]
async fn after_a_failed_group_the_gate_stays_shut() {
    let (_folder, ledger) = fresh();
    let writer = Writer::start(Box::new(ledger)).expect("a thread");
    let handle = writer.handle();
    handle.note(transition("a", "1", State::Opened));
    let step = |path, attempt, state| transition(path, attempt, state);
    record(&handle, step("a", "1", State::Committing))
        .await
        .expect("durable, and what nobody waited for too");
    assert!(
        record(&handle, step("b", "2", State::Stored))
            .await
            .is_err()
    );
    handle.note(transition("c", "3", State::Opened));
    let shut = record(&handle, step("c", "3", State::Committing)).await;
    assert!(shut.is_err());
    let end = record(&handle, step("a", "1", State::Stored)).await;
    end.expect("what was out already is still written down");
    drop(handle);
    let ledger = writer.finish().expect("the ledger");
    let known = ledger.known(&[target("d")], "s").expect("read");
    let state = |path| {
        known
            .get(&target("d"), &SourcePath::new(path))
            .map(|k| &k.state)
    };
    assert_eq!(state("a"), Some(&KnownState::Stored));
    assert_eq!(state("b"), None);
    assert_eq!(state("c"), Some(&KnownState::NotStored));
}
