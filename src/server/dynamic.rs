//! Dynamic security: the thread that does the commands of clients, and the file that keeps what
//! comes of them.
//!
//! ```text
//!   PUBLISH --> a shard --> the queue of requests --> this thread: execute, write the file
//!                                                        |--> all shards: the new users
//!                                                        |--> the client's shard: the answer
//!                                                        +--> all shards: whom to disconnect
//! ```
//! The file is written first, so that nothing holds that a restart would forget. A reload reads the
//! file while no command is being done.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, MutexGuard, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use tracing::{error, info, warn};

use crate::{
    access::{
        Salt,
        dynamic::{Desk, Document, Execution, Kicks, Request, Users},
    },
    base::ids::ShardId,
    config::Config,
    control,
    runtime::{Shards, Unasked},
    shard::ask::{Answer, Question},
};

/// The document that is in force.
pub(super) struct Kept {
    path: PathBuf,
    document: Document,
    users: Users,
}

/// The document, and where commands come in. All clones are the same.
#[derive(Clone)]
pub(super) struct Dynamic {
    kept: Arc<Lock<Kept>>,
    queue: Queue,
}

/// The queue of the thread.
#[derive(Clone)]
struct Queue(SyncSender<Item>);

enum Item {
    Request(Request),
    Stop,
}

/// The other end of the queue, until the thread begins.
pub(super) struct Waiting(Receiver<Item>);

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Desk for Queue {
    fn submit(&self, request: Request) -> bool {
        self.0.try_send(Item::Request(request)).is_ok()
    }
}

/// The document of the file that the configuration names.
pub(super) fn document(config: &Config) -> Result<Option<Document>> {
    config.dynamic_security_file.as_deref().map(read).transpose()
}

fn read(path: &Path) -> Result<Document> {
    Document::read(path).with_context(|| format!("dynamic security file {}", path.display()))
}

impl Kept {
    fn read(path: PathBuf) -> Result<Kept> {
        let document = read(&path)?;
        let users = document.users();
        Ok(Kept { path, document, users })
    }

    /// What the file has now. What it says as before is the same as before.
    pub(super) fn read_again(&self) -> Result<Kept> {
        let now = Kept::read(self.path.clone())?;
        let is_same = now.document == self.document;
        let users = if is_same { self.users.clone() } else { now.users.after(&self.users) };
        Ok(Kept { users, ..now })
    }

    pub(super) fn users(&self) -> &Users {
        &self.users
    }
}

impl Dynamic {
    /// Reads the file, if there is to be one.
    pub(super) fn open(config: &Config) -> Result<Option<(Dynamic, Waiting)>> {
        let Some(path) = config.dynamic_security_file.clone() else { return Ok(None) };
        let kept = Arc::new(Lock::new(Kept::read(path)?));
        let (sender, receiver) = mpsc::sync_channel(REQUESTS_MAX);
        Ok(Some((Dynamic { kept, queue: Queue(sender) }, Waiting(receiver))))
    }

    /// Takes the commands of clients.
    pub(super) fn desk(&self) -> Arc<dyn Desk> {
        Arc::new(self.queue.clone())
    }

    /// The document. No command is done while it is held.
    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        // A thread that has panicked left it whole: it is replaced at once.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread, which works until the returned value is dropped.
    pub(super) fn start(self, waiting: Waiting, shards: Shards) -> io::Result<Running> {
        let stop = self.queue.clone();
        let serve = move || {
            while let Ok(Item::Request(request)) = waiting.0.recv() {
                self.serve(&request, &shards);
            }
        };
        let thread = thread::Builder::new().name("ringmq-dynamic".to_owned()).spawn(serve)?;
        Ok(Running { stop, thread: Some(thread) })
    }

    fn serve(&self, request: &Request, shards: &Shards) {
        let mut kept = self.lock();
        let mut document = kept.document.clone();
        let mut has_salt = true;
        let mut salt = || {
            let mut salt = Salt::default();
            has_salt &= getrandom::fill(&mut salt).is_ok();
            salt
        };
        let execution = document.execute(&request.payload, &mut salt);
        let mut is_kept = true;
        if execution.has_changed() {
            is_kept = has_salt && kept.put_in_force(document, shards);
        }
        drop(kept);
        tell(request, &execution, is_kept);
        answer(request, execution.answer(is_kept), shards);
        if is_kept && !execution.kicks.is_empty() {
            end(execution.kicks, shards);
        }
    }
}

impl Kept {
    /// Writes a document and has all shards keep to it. False: it cannot be written, and nothing
    /// has changed.
    fn put_in_force(&mut self, document: Document, shards: &Shards) -> bool {
        if let Err(fault) = control::write_whole(&self.path, document.text().as_bytes()) {
            let path = self.path.display();
            error!(%path, %fault, "the dynamic security file cannot be written: nothing changes");
            return false;
        }
        let users = document.users().after(&self.users);
        (self.document, self.users) = (document, users);
        let question = Question::Users(self.users.clone());
        let asked: Vec<_> =
            shards.all().map(|shard| ask(shard, question.clone(), shards)).collect();
        for answer in asked {
            await_answer(&answer);
        }
        true
    }
}

/// Logs what a client has asked for. Passwords are no part of it.
fn tell(request: &Request, execution: &Execution, is_kept: bool) {
    let (client, user) = (&*request.client_id, request.user_name.as_deref());
    for (command, error) in execution.commands(is_kept).take(COMMANDS_LOGGED_MAX) {
        let command: String = command.chars().take(COMMAND_CHARS_MAX).collect();
        match error {
            None => info!(client, user, command, "dynamic security: done"),
            Some(error) => info!(client, user, command, error, "dynamic security: refused"),
        }
    }
}

fn answer(request: &Request, payload: String, shards: &Shards) {
    let Some(home) = shards.all().nth(request.home) else { return };
    let (client_id, payload) = (request.client_id.clone(), Bytes::from(payload));
    await_answer(&ask(home, Question::AnswerCommands { client_id, payload }, shards));
}

/// Disconnects whom a change concerns.
fn end(kicks: Kicks, shards: &Shards) {
    let kicks = Arc::new(kicks);
    for shard in shards.all() {
        let mut from = Some(0);
        while let Some(place) = from {
            let question = Question::EndUsers(Arc::clone(&kicks), place);
            from = match await_answer(&ask(shard, question, shards)) {
                Some(Answer::Ended { next, .. }) => next,
                _ => None,
            };
        }
    }
}

/// Asks one shard. The answer comes on the channel.
fn ask(shard: ShardId, question: Question, shards: &Shards) -> Receiver<Answer> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let reply = Box::new(move |answer| drop(sender.try_send(answer)));
    match shards.ask_within(shard, question, reply, PATIENCE) {
        Ok(()) | Err(Unasked::Ended) => {}
        Err(Unasked::Busy) => error!(%shard, "a shard takes no change of dynamic security"),
    }
    receiver
}

/// `None`: the shard has ended, or does not answer.
fn await_answer(answer: &Receiver<Answer>) -> Option<Answer> {
    match answer.recv_timeout(PATIENCE) {
        Ok(answer) => Some(answer),
        Err(mpsc::RecvTimeoutError::Disconnected) => None,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            warn!("a shard has not answered for 10 seconds");
            None
        }
    }
}

/// Ends the thread when it is dropped, after the commands that wait.
pub(super) struct Running {
    stop: Queue,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.0.send(Item::Stop));
        if let Some(thread) = self.thread.take() {
            // It does not matter how the thread has ended.
            drop(thread.join());
        }
    }
}

#[expect(clippy::disallowed_types, reason = "taken by a command or a reload, never by a shard")]
type Lock<T> = std::sync::Mutex<T>;

/// Messages with commands that may wait.
const REQUESTS_MAX: usize = 64;
/// How long a shard may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Commands of one message that are logged, and the characters of each.
const COMMANDS_LOGGED_MAX: usize = 20;
const COMMAND_CHARS_MAX: usize = 40;
