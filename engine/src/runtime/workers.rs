//! Runs attempts: functions on worker threads, futures on tokio, or through an external executor.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::attempt::{AttemptInfo, AttemptKey};
use super::handle::{StopToken, TaskHandle};
use super::lock::lock;
use super::task::{Report, Results, RunningAttempt, TaskBody, TaskResult};
use super::trigger::{PollReport, RunningPoll, TriggerBody};
use crate::core::event::{Attempt, ExecutionId, TaskError, TaskId};
use crate::core::task_context::TaskContext;

/// A job for a worker thread. Called with an error if there is no thread for it.
type Job = Box<dyn FnOnce(Result<(), NoThread>) + Send>;

/// No thread could be started, and none exists that could become free.
struct NoThread(std::io::Error);

impl NoThread {
    fn refuse(self) -> TaskError {
        no_executor(&format!("cannot start a worker thread: {}", self.0))
    }
}

fn no_executor(why: &str) -> TaskError {
    TaskError { kind: "NoExecutor".into(), message: why.into(), ..TaskError::default() }
}

/// The tokio runtime, started with the first async task.
#[derive(Default)]
enum Tokio {
    #[default]
    Off,
    On(tokio::runtime::Runtime),
    Closed,
}

/// Runs attempts.
pub(crate) struct Workers {
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    /// Number of idle threads that no job has been sent to.
    idle: Arc<AtomicUsize>,
    /// Number of threads, busy or idle.
    alive: Arc<AtomicUsize>,
    /// Number of idle threads to keep.
    max_idle: usize,
    closed: AtomicBool,
    tokio: Mutex<Tokio>,
    stop_tokens: Arc<Mutex<HashMap<AttemptKey, StopToken>>>,
}

impl Workers {
    pub(crate) fn new(max_idle: usize) -> Self {
        let (jobs, waiting) = unbounded();
        Self {
            jobs,
            waiting,
            idle: Arc::new(AtomicUsize::new(0)),
            alive: Arc::default(),
            max_idle,
            closed: AtomicBool::new(false),
            tokio: Mutex::default(),
            stop_tokens: Arc::default(),
        }
    }

    /// Starts an attempt and returns immediately. Does nothing after [`Workers::close`]: the attempt was abandoned
    /// before its start was durable.
    pub(crate) fn start(&self, body: &TaskBody, handle: TaskHandle, context: TaskContext, report: Report) {
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        let report = self.stoppable(&handle, report);
        match body.clone() {
            TaskBody::Blocking(function) => self.start_blocking(Box::new(move |thread| {
                let mut context = context;
                if let Err(missing) = thread {
                    return report(context, Err(missing.refuse()), &mut Results::default());
                }
                let span = attempt_span(handle.info()).entered();
                let result = catch_unwind(AssertUnwindSafe(|| handle.run_as(|| function(&mut context, &handle))));
                drop(span);
                report(context, result.unwrap_or_else(|panic| Err(panicked(&*panic))), &mut Results::default());
            })),
            TaskBody::Async(function) => self.start_async(move |handle| function(context, handle), handle, report),
            TaskBody::Detached(function) => {
                let info = handle.info().clone();
                let attempt = RunningAttempt { info, context, report: Some(report), handle };
                let _a_dropped_attempt_reports_itself = catch_unwind(AssertUnwindSafe(|| function(attempt)));
            }
        }
    }

    /// Starts a poll and returns immediately. Does nothing after [`Workers::close`].
    pub(crate) fn poll(&self, body: &TriggerBody, report: PollReport) {
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        match body.clone() {
            TriggerBody::Blocking(function) => self.start_blocking(Box::new(move |thread| {
                if let Err(missing) = thread {
                    return report(Err(missing.refuse()));
                }
                let result = catch_unwind(AssertUnwindSafe(|| function()));
                report(result.unwrap_or_else(|panic| Err(panicked(&*panic))));
            })),
            TriggerBody::Detached(function) => {
                let poll = RunningPoll { report: Some(report) };
                let _a_dropped_poll_reports_itself = catch_unwind(AssertUnwindSafe(|| function(poll)));
            }
        }
    }

    /// Stops an attempt, if its executor supports that.
    pub(crate) fn stop(&self, execution: ExecutionId, task: &TaskId, attempt: Attempt) {
        let stop_token = lock(&self.stop_tokens).remove(&(execution, task.clone(), attempt));
        if let Some(stop_token) = stop_token {
            stop_token.stop();
        }
    }

    /// Hands a job to an idle thread or to a new one, so that a function that hangs never delays others.
    fn start_blocking(&self, job: Job) {
        let claimed = self.idle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |idle| idle.checked_sub(1)).is_ok();
        if claimed {
            // Cannot fail: `self` holds the receiver.
            let _ = self.jobs.send(job);
            return;
        }
        let (waiting, idle, max_idle) = (self.waiting.clone(), self.idle.clone(), self.max_idle);
        let first = Arc::new(Mutex::new(Some(job)));
        let job = first.clone();
        let alive = Alive::counted(&self.alive);
        let body = move || {
            let _alive = alive;
            let job = lock(&job).take();
            if let Some(job) = job {
                job(Ok(()));
            }
            work(&waiting, &idle, max_idle);
        };
        let Err(error) = thread::Builder::new().name("cloacina-worker".into()).spawn(body) else { return };
        let Some(job) = lock(&first).take() else { return };
        if self.alive.load(Ordering::SeqCst) == 0 {
            return job(Err(NoThread(error)));
        }
        tracing::error!(%error, "cannot start a worker thread; the attempt waits for a free one");
        let _ = self.jobs.send(job);
    }

    fn start_async<F>(&self, body: impl FnOnce(TaskHandle) -> F + Send + 'static, handle: TaskHandle, report: Report)
    where
        F: Future<Output = (TaskContext, TaskResult)> + Send + 'static,
    {
        let runtime = match self.tokio() {
            Ok(runtime) => runtime,
            Err(error) => {
                let why = format!("the engine could not start the threads for async tasks: {error}");
                return report(TaskContext::default(), Err(no_executor(&why)), &mut Results::default());
            }
        };
        let (stop_token, span) = (handle.stop_token().clone(), attempt_span(handle.info()));
        let future = tracing::Instrument::instrument(async move { body(handle).await }, span);
        let task = runtime.spawn(future);
        let abort = task.abort_handle();
        stop_token.on_stop(move || abort.abort());
        runtime.spawn(async move {
            let (context, result) = match task.await {
                Ok(ended) => ended,
                Err(error) if error.is_panic() => (TaskContext::default(), Err(panicked(&*error.into_panic()))),
                // Aborted: it was stopped, and its result is ignored.
                Err(_) => return,
            };
            report(context, result, &mut Results::default());
        });
    }

    /// Registers the attempt for [`Workers::stop`] until it reports.
    fn stoppable(&self, handle: &TaskHandle, report: Report) -> Report {
        let info = handle.info();
        let key = (info.execution, info.task.clone(), info.attempt);
        let (stop_token, stop_tokens) = (handle.stop_token().clone(), self.stop_tokens.clone());
        lock(&stop_tokens).insert(key.clone(), stop_token.clone());
        Box::new(move |context, result, results| {
            lock(&stop_tokens).remove(&key);
            stop_token.close();
            report(context, result, results);
        })
    }

    fn tokio(&self) -> std::io::Result<tokio::runtime::Handle> {
        let mut tokio = lock(&self.tokio);
        match &*tokio {
            Tokio::On(runtime) => return Ok(runtime.handle().clone()),
            Tokio::Closed => return Err(std::io::Error::other("the engine is shut down")),
            Tokio::Off => {}
        }
        // The builder panics if it cannot start its threads.
        let built = catch_unwind(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("cloacina-tokio")
                .enable_time()
                .build()
        });
        let runtime = built.map_err(|panic| std::io::Error::other(panicked(&*panic).message.to_string()))??;
        let handle = runtime.handle().clone();
        *tokio = Tokio::On(runtime);
        Ok(handle)
    }

    /// Stops accepting work, and shuts tokio down without waiting for running futures.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Tokio::On(runtime) = std::mem::replace(&mut *lock(&self.tokio), Tokio::Closed) {
            runtime.shutdown_background();
        }
    }
}

/// Runs jobs while fewer than `max_idle` threads are idle. Each increment of `idle` claims one job.
fn work(waiting: &Receiver<Job>, idle: &AtomicUsize, max_idle: usize) {
    while idle.load(Ordering::SeqCst) < max_idle {
        idle.fetch_add(1, Ordering::SeqCst);
        match waiting.recv() {
            Ok(job) => job(Ok(())),
            Err(_) => return,
        }
    }
}

/// Counts a thread, from before its start until it ends or fails to start.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn counted(threads: &Arc<AtomicUsize>) -> Self {
        threads.fetch_add(1, Ordering::SeqCst);
        Self(threads.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn attempt_span(info: &AttemptInfo) -> tracing::Span {
    tracing::info_span!("attempt", execution = %info.execution, workflow = %info.workflow, task = %info.task, attempt = info.attempt)
}

fn panicked(panic: &(dyn Any + Send)) -> TaskError {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned());
    TaskError { kind: "Panic".into(), message: message.into(), ..TaskError::default() }
}
