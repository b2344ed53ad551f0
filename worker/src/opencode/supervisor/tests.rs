use super::*;

fn failed() -> Input {
    Input::StartFailed { reason: "no".into(), hopeless: false }
}

fn exited(stable: bool) -> Input {
    Input::Exited { reason: "killed".into(), stable }
}

/// A server that runs and is in use.
fn in_use() -> Supervisor {
    let mut server = Supervisor::new(3);
    assert_eq!(server.apply(Input::Acquire), [Action::Start]);
    assert_eq!(server.apply(Input::Started), [Action::Grant, Action::ArmIdle]);
    assert_eq!(server.apply(Input::InUse), [Action::Disarm]);
    server
}

#[test]
fn all_who_come_during_a_start_share_it() {
    let mut server = Supervisor::new(3);
    assert_eq!(server.apply(Input::Acquire), [Action::Start]);
    assert_eq!(server.apply(Input::Acquire), []);
    assert_eq!(server.apply(Input::Started), [Action::Grant, Action::ArmIdle]);
    assert_eq!(server.apply(Input::Acquire), [Action::Grant]);
}

#[test]
fn after_the_last_attempt_those_who_wait_are_refused_with_the_reason() {
    let mut server = Supervisor::new(2);
    server.apply(Input::Acquire);
    assert_eq!(server.apply(failed()), [Action::ArmBackoff { failures: 1 }]);
    assert_eq!(server.apply(Input::Timer), [Action::Start]);
    let refused = Action::Refuse(Refusal::Failed { attempts: 2, reason: "no".into() });
    assert_eq!(server.apply(failed()), [Action::ArmBackoff { failures: 2 }, refused]);
    assert_eq!(server.apply(Input::Acquire), [], "the next one waits for the pause");
    assert_eq!(server.apply(Input::Timer), [Action::Start]);
}

#[test]
fn a_hopeless_start_is_not_tried_again_for_those_who_wait() {
    let mut server = Supervisor::new(5);
    server.apply(Input::Acquire);
    let actions = server.apply(Input::StartFailed { reason: "no such file".into(), hopeless: true });
    let reason = "no such file".into();
    assert_eq!(actions[1], Action::Refuse(Refusal::Failed { attempts: 1, reason }));
    assert_eq!(server.apply(Input::Timer), [], "nobody waits");
}

#[test]
fn a_crash_backs_off_and_starts_again_only_when_somebody_comes() {
    let mut server = in_use();
    assert_eq!(
        server.apply(exited(true)),
        [Action::Lose("killed".into()), Action::ArmBackoff { failures: 1 }]
    );
    assert_eq!(server.apply(Input::Unused), [], "leases of the lost generation");
    assert_eq!(server.apply(Input::Timer), []);
    assert_eq!(server.apply(Input::Acquire), [Action::Start]);
}

#[test]
fn a_crash_loop_waits_longer_each_time_although_every_start_succeeds() {
    let mut server = in_use();
    for failures in 1..5 {
        let actions = server.apply(exited(false));
        assert_eq!(actions[1], Action::ArmBackoff { failures });
        server.apply(Input::Acquire);
        assert_eq!(server.apply(Input::Timer), [Action::Start]);
        server.apply(Input::Started);
    }
}

#[test]
fn work_that_arrives_during_an_idle_stop_gets_the_next_generation() {
    let mut server = in_use();
    assert_eq!(server.apply(Input::Timer), [], "a server in use is never idle");
    assert_eq!(server.apply(Input::Unused), [Action::ArmIdle]);
    let actions = server.apply(Input::Timer);
    assert_eq!(actions.last(), Some(&Action::Stop { gently: true }));
    assert_eq!(server.apply(Input::Acquire), []);
    assert_eq!(server.apply(Input::Stopped), [Action::Start]);
}

#[test]
fn a_wedged_server_is_killed_before_another_one_starts() {
    let mut server = in_use();
    let actions = server.apply(Input::Wedged { reason: "silent".into(), stable: true });
    assert_eq!(actions, [Action::Lose("silent".into()), Action::Disarm, Action::Stop { gently: false }]);
    assert_eq!(server.apply(Input::Acquire), []);
    assert_eq!(server.apply(Input::Stopped), [Action::ArmBackoff { failures: 1 }]);
    assert_eq!(server.apply(Input::Timer), [Action::Start]);
}

#[test]
fn a_shutdown_ends_every_state_and_nothing_starts_after_it() {
    let reach: [fn(&mut Supervisor); 4] = [
        |_| {},
        |s| drop(s.apply(Input::Acquire)),
        |s| drop((s.apply(Input::Acquire), s.apply(failed()))),
        |s| drop((s.apply(Input::Acquire), s.apply(Input::Started), s.apply(Input::Timer))),
    ];
    for (number, prepare) in reach.into_iter().enumerate() {
        let mut server = Supervisor::new(3);
        prepare(&mut server);
        assert!(
            server.apply(Input::Shutdown).contains(&Action::Refuse(Refusal::Closed)),
            "in state {number}"
        );
        server.apply(Input::Stopped);
        assert!(server.is_closed(), "in state {number}");
        assert_eq!(server.apply(Input::Acquire), [Action::Refuse(Refusal::Closed)]);
        assert_eq!(server.apply(Input::Timer), []);
    }
    let mut server = in_use();
    assert_eq!(server.apply(Input::Shutdown).last(), Some(&Action::Stop { gently: true }));
    assert_eq!(server.apply(Input::Acquire), [Action::Refuse(Refusal::Closed)]);
    assert_eq!(server.apply(Input::Stopped), [Action::Disarm, Action::Finish]);
}

#[test]
fn pauses_double_to_a_limit_and_depend_on_nothing_but_the_seed() {
    let seconds = |failures, seed| backoff(failures, seed).as_secs_f32();
    for (failures, shortest) in [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 15.0), (1000, 15.0)] {
        for seed in 0..50 {
            let pause = seconds(failures, seed);
            assert!((shortest..=2.0 * shortest).contains(&pause), "{failures} failures: {pause}s");
            assert_eq!(pause.to_bits(), seconds(failures, seed).to_bits());
        }
    }
}
