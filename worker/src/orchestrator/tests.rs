use std::sync::atomic::AtomicUsize;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{config::Settings, lifecycle::state::Phase};

fn wanted(names: &[&str]) -> Wanted {
    let config = |name: &str| Config {
        convex_url: "http://127.0.0.1:1".parse().unwrap(),
        token: format!("machine_m:worker_{name}:0123456789abcdef0123456789abcdef").parse().unwrap(),
        directory: ".".into(),
        settings: Settings::default(),
    };
    names.iter().map(|name| ((*name).to_owned(), config(name))).collect()
}

/// Workers that count their starts and end when they are asked to; those called `bad…` crash after a second. Their main
/// loops come round once.
#[derive(Default)]
struct Fakes {
    starts: Mutex<BTreeMap<String, usize>>,
    running: Arc<AtomicUsize>,
}

impl Fakes {
    fn launch(&self, name: &str, stop: &Stop, status: &Status) -> BoxFuture<'static, Ended> {
        status.set_phase(Phase::Ready);
        status.beat();
        *self.starts.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        let (running, stop) = (self.running.clone(), stop.gracefully.clone());
        let crashes = name.starts_with("bad");
        Box::pin(async move {
            running.fetch_add(1, Ordering::Relaxed);
            let ended = tokio::select! {
                () = stop.cancelled() => Ended::Exit(Exit::Stopped),
                () = sleep(Duration::from_secs(1)), if crashes => Ended::Crashed("boom".into()),
            };
            running.fetch_sub(1, Ordering::Relaxed);
            ended
        })
    }

    fn starts(&self, name: &str) -> usize {
        self.starts.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

/// Runs `names`, lets `act` happen meanwhile, then stops all.
async fn run_fakes(names: &[&str], act: impl AsyncFnOnce(&Fakes, &mpsc::Sender<Wanted>, &Roster)) {
    let fakes = Arc::new(Fakes::default());
    let (reload, reloads) = mpsc::channel(1);
    let (roster, gracefully) = (Roster::default(), CancellationToken::new());
    let stop = Stop { gracefully: gracefully.clone(), ..Stop::default() };
    let launch = {
        let fakes = fakes.clone();
        move |name: &str, _: Config, stop: Stop, status: Arc<Status>| fakes.launch(name, &stop, &status)
    };
    let acting = async {
        act(&fakes, &reload, &roster).await;
        gracefully.cancel();
        std::future::pending::<()>().await;
    };
    let running = run(&launch, wanted(names), reloads, stop, roster.clone());
    tokio::select! {
        given_up = running => assert_eq!(given_up, []),
        () = acting => {}
    }
    assert_eq!(fakes.running.load(Ordering::Relaxed), 0, "all have ended");
}

#[tokio::test(start_paused = true)]
async fn one_that_crashes_is_started_again_and_the_other_does_not_notice() {
    run_fakes(&["bad", "good"], async |fakes, _, roster| {
        sleep(Duration::from_secs(600)).await;
        assert_eq!(fakes.starts("good"), 1);
        // Pauses of 1, 2, 4, … 60 s, and a second of life each time.
        assert!((12..=18).contains(&fakes.starts("bad")), "{}", fakes.starts("bad"));
        let restarts = roster.all()["bad"].restarts.load(Ordering::Relaxed);
        assert!(restarts >= 11, "{restarts}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_crashed_is_not_ready_and_one_that_hangs_is_told_from_it() {
    run_fakes(&["bad", "hangs"], async |_, _, roster| {
        // The fourth start of the first is due after 19 s.
        sleep(Duration::from_secs(17)).await;
        let all = roster.all();
        assert_eq!((all["bad"].phase(), all["hangs"].phase()), (Phase::Stopped, Phase::Ready));
        assert_eq!(roster.hanging(), ["hangs".to_owned()].into());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_adds_and_removes_workers_without_touching_the_others() {
    run_fakes(&["a", "b"], async |fakes, reload, roster| {
        sleep(Duration::from_secs(1)).await;
        reload.send(wanted(&["b", "c"])).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!((fakes.starts("a"), fakes.starts("b"), fakes.starts("c")), (1, 1, 1));
        assert_eq!(roster.all().into_keys().collect::<Vec<_>>(), ["b", "c"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_taken_out_of_the_file_while_it_rests_is_shown_no_more() {
    run_fakes(&["bad", "good"], async |_, reload, roster| {
        // It has crashed after a second and rests for another.
        sleep(Duration::from_millis(1_500)).await;
        assert_eq!(roster.all()["bad"].phase(), Phase::Stopped);
        reload.send(wanted(&["good"])).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        assert_eq!(roster.all().into_keys().collect::<Vec<_>>(), ["good"]);
    })
    .await;
}

#[tokio::test]
async fn a_worker_on_a_thread_of_its_own_ends_when_it_is_asked_to() {
    let stop = Stop::default();
    let config = wanted(&["a"]).remove("a").unwrap();
    let ended = threads::launch("a", config, stop.clone(), Arc::default());
    stop.gracefully.cancel();
    assert_eq!(ended.await, Ended::Exit(Exit::Stopped));
}
