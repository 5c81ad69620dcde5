//! Sessions: a command in a running container, and the main process of one.
//!
//! A connection of its own ([`raw`]) carries both directions. The caller's thread takes the output; a task
//! of the runtime sends what a reader thread finds in the input, another one looks at the terminal's size.
//! The end is the end of the output; the exit code is asked for then. Nothing is buffered beyond one piece.

use std::future::Future;
use std::io::{self, Read};
use std::time::Duration;

use bollard::exec::{ResizeExecOptions, StartExecOptions};
use bollard::models::{ContainerStateStatusEnum, ExecConfig};
use bollard::query_parameters::{InspectContainerOptions, ResizeContainerTTYOptionsBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::super::session::{AskSize, Closed, DetachWatch, Output, Session, TerminalSize};
use super::super::{EngineError, ExecSpec, LogStream, Result};
use super::raw::{self, Answer, quoted};
use super::streams::stopped;
use super::transport::Wire;
use super::{Docker, failed};

/// How often the terminal's size is looked at.
const LOOK: Duration = Duration::from_millis(150);
/// How often it is asked whether a command whose output has ended has ended itself.
const ASK: Duration = Duration::from_millis(20);
/// Bytes that are taken at once.
const PIECE: usize = 32 * 1024;

type Stream = tokio::io::BufReader<Wire>;

/// What has the terminal whose size follows the user's.
#[derive(Clone)]
enum Sized {
    Exec(String),
    Container(String),
}

pub(super) fn exec(
    docker: &Docker,
    container: &str,
    spec: &ExecSpec,
    session: Session<'_>,
) -> Result<Closed> {
    let action = format!("run `{}` in {container}", spec.command.join(" "));
    let size = session.size.as_ref().and_then(|ask| ask());
    docker.runtime.block_on(async {
        let api = |error| failed(action.clone(), error);
        let config = config(spec, &session, size);
        let id = docker.api.create_exec(container, config).await.map_err(api)?.id;
        if spec.detach {
            let detached = StartExecOptions { detach: true, tty: session.tty, output_capacity: None };
            docker.api.start_exec(&id, Some(detached)).await.map_err(api)?;
            return Ok(Closed::Detached);
        }
        let mut body = json!({"Detach": false, "Tty": session.tty});
        if let Some(size) = size {
            body["ConsoleSize"] = json!([size.rows, size.columns]);
        }
        let path = format!("/exec/{id}/start");
        let answer = raw::post(docker, &action, &path, Some(body), true).await?;
        if !carry(docker, &action, answer, session, Sized::Exec(id.clone())).await? {
            return Ok(Closed::Detached);
        }
        loop {
            let found = docker.api.inspect_exec(&id).await.map_err(api)?;
            if found.running != Some(true) {
                return Ok(Closed::Exited(found.exit_code.unwrap_or(0)));
            }
            // It has closed its output and goes on.
            tokio::time::sleep(ASK).await;
        }
    })
}

fn config(spec: &ExecSpec, session: &Session<'_>, size: Option<TerminalSize>) -> ExecConfig {
    let attached = !spec.detach;
    ExecConfig {
        attach_stdin: Some(attached && session.input.is_some()),
        attach_stdout: Some(attached),
        attach_stderr: Some(attached),
        tty: Some(session.tty),
        console_size: size.filter(|_| session.tty).map(|size| vec![size.rows.into(), size.columns.into()]),
        detach_keys: Some(session.detach.text()).filter(|keys| !keys.is_empty()),
        cmd: Some(spec.command.clone()),
        env: Some(spec.env.clone()),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        privileged: Some(spec.privileged),
    }
}

pub(super) fn attach(
    docker: &Docker,
    container: &str,
    session: Session<'_>,
    connected: &mut dyn FnMut() -> Result<()>,
) -> Result<Closed> {
    let action = format!("attach to {container}");
    let (answer, mut end) = docker.runtime.block_on(async {
        let waited = waited(docker, container, &action).await?;
        let answer = raw::post(docker, &action, &attach_path(container, &session), None, true).await?;
        let path = format!("/containers/{}/wait?condition={waited}", quoted(container));
        // Its head says that the engine waits from now on, so that no end is missed.
        Ok::<_, EngineError>((answer, raw::post(docker, &action, &path, None, false).await?))
    })?;
    connected()?;
    docker.runtime.block_on(async {
        let cancel = session.cancel;
        if !carry(docker, &action, answer, session, Sized::Container(container.to_owned())).await? {
            return Ok(Closed::Detached);
        }
        let body = unless_stopped(cancel, end.body(&action)).await??;
        exit_code(&body).map(Closed::Exited).ok_or_else(|| EngineError::Broken {
            action: action.clone(),
            message: "the engine did not say how the container ended".to_owned(),
        })
    })
}

/// What ends the wait for a container: that it goes, where it goes by itself; that it does not run, where it
/// runs; else the end of the run that is to begin.
async fn waited(docker: &Docker, container: &str, action: &str) -> Result<&'static str> {
    let request = docker.api.inspect_container(container, None::<InspectContainerOptions>);
    let found = request.await.map_err(|error| failed(action.to_owned(), error))?;
    let state = found.state.and_then(|state| state.status);
    let goes = found.host_config.and_then(|host| host.auto_remove) == Some(true);
    let runs = matches!(
        state,
        Some(
            ContainerStateStatusEnum::RUNNING
                | ContainerStateStatusEnum::PAUSED
                | ContainerStateStatusEnum::RESTARTING
        )
    );
    Ok(match (goes, runs) {
        (true, _) => "removed",
        (false, true) => "not-running",
        (false, false) => "next-exit",
    })
}

fn attach_path(container: &str, session: &Session<'_>) -> String {
    let stdin = u8::from(session.input.is_some());
    let keys = Some(session.detach.text()).filter(|keys| !keys.is_empty());
    let keys = keys.map(|keys| format!("&detachKeys={}", quoted(&keys))).unwrap_or_default();
    format!("/containers/{}/attach?stream=1&stdin={stdin}&stdout=1&stderr=1{keys}", quoted(container))
}

fn exit_code(body: &[u8]) -> Option<i64> {
    serde_json::from_slice::<Value>(body).ok()?.get("StatusCode")?.as_i64()
}

/// Ends what runs beside a session with it.
struct Beside(Vec<JoinHandle<()>>);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Carries both directions until the output ends; false if the user left before.
async fn carry(
    docker: &Docker,
    action: &str,
    answer: Answer,
    session: Session<'_>,
    sized: Sized,
) -> Result<bool> {
    let Session { input, output, tty, size, detach, cancel } = session;
    let (mut from, to) = tokio::io::split(answer.stream);
    let (left, leaves) = oneshot::channel();
    let mut beside = Beside(Vec::new());
    // Where nothing is sent, the half that sends stays open: closing it would be an end of input.
    let mut unused = None;
    match input {
        Some(input) => {
            let watch = DetachWatch::new(detach);
            let typed = read_beside(input, if tty { Some(watch) } else { None });
            beside.0.push(docker.runtime.spawn(send(typed, to, left)));
        }
        None => unused = Some((to, left)),
    }
    if let (true, Some(size)) = (tty, size) {
        beside.0.push(docker.runtime.spawn(follow_size(docker.api.clone(), sized, size)));
    }
    let receive = receive(&mut from, action, tty, output);
    let result = tokio::select! {
        received = unless_stopped(cancel, receive) => received?.map(|()| true),
        Ok(()) = leaves => Ok(false),
    };
    drop((beside, unused));
    result
}

/// The result of `work`, or [`EngineError::Cancelled`] when `cancel` is set first.
async fn unless_stopped<T>(
    cancel: Option<&crate::base::cancel::Cancel>,
    work: impl Future<Output = T>,
) -> Result<T> {
    let Some(cancel) = cancel else { return Ok(work.await) };
    tokio::select! {
        done = work => Ok(done),
        () = stopped(cancel) => Err(EngineError::Cancelled),
    }
}

/// What the reader thread found.
enum Typed {
    Bytes(Vec<u8>),
    Leave,
}

/// Reads the input in a thread that nobody waits for.
fn read_beside(mut input: Box<dyn Read + Send>, mut watch: Option<DetachWatch>) -> mpsc::Receiver<Typed> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            let bytes = match input.read(&mut buffer) {
                // What cannot be read is at its end.
                Ok(0) => return,
                Ok(count) => &buffer[..count],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let (bytes, leave) = match &mut watch {
                Some(watch) => watch.take(bytes),
                None => (bytes.to_vec(), false),
            };
            if sender.blocking_send(Typed::Bytes(bytes)).is_err() {
                return;
            }
            if leave {
                let _ = sender.blocking_send(Typed::Leave);
                return;
            }
        }
    });
    receiver
}

/// Sends the input on, and its end. A process that reads no more is no error: its own end counts.
async fn send(mut typed: mpsc::Receiver<Typed>, mut to: WriteHalf<Stream>, left: oneshot::Sender<()>) {
    while let Some(typed) = typed.recv().await {
        match typed {
            Typed::Bytes(bytes) => {
                if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                    break;
                }
            }
            Typed::Leave => {
                let _ = left.send(());
                return;
            }
        }
    }
    let _ = to.shutdown().await;
    // Dropping the sender would look like leaving.
    std::future::pending::<()>().await;
}

/// Gives the output to the caller until it ends.
async fn receive(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    action: &str,
    tty: bool,
    output: &mut Output<'_>,
) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut parts = Parts::default();
    loop {
        let count = from
            .read(&mut buffer)
            .await
            .map_err(|error| EngineError::Broken { action: action.to_owned(), message: error.to_string() })?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &buffer[..count];
        let taken = if tty { output(LogStream::Stdout, bytes) } else { parts.take(bytes, output) };
        taken.map_err(|source| EngineError::Transfer { action: action.to_owned(), source })?;
    }
}

/// Takes apart what a process without a terminal writes: a header of eight bytes (the stream, three zeros,
/// the length) before each part.
#[derive(Default)]
struct Parts {
    header: Vec<u8>,
    left: usize,
}

impl Parts {
    fn take(&mut self, mut bytes: &[u8], output: &mut Output<'_>) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let missing = (8 - self.header.len()).min(bytes.len());
                self.header.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
                let [_, _, _, _, a, b, c, d] = *self.header.as_slice() else { return Ok(()) };
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.left == 0 {
                    self.header.clear();
                }
                continue;
            }
            let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
            // 3 is the engine itself, which has something to say about the process.
            let stream = if self.header[0] >= 2 { LogStream::Stderr } else { LogStream::Stdout };
            output(stream, part)?;
            self.left -= part.len();
            bytes = rest;
            if self.left == 0 {
                self.header.clear();
            }
        }
        Ok(())
    }
}

/// Makes a terminal as large as the user's, for as long as the session lasts. What is refused (the process
/// may not run yet) is tried again.
async fn follow_size(api: bollard::Docker, sized: Sized, ask: AskSize) {
    let mut sent = None;
    loop {
        let now = ask();
        if let Some(size) = now.filter(|size| sent != Some(*size))
            && resize(&api, &sized, size).await
        {
            sent = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn resize(api: &bollard::Docker, sized: &Sized, size: TerminalSize) -> bool {
    match sized {
        Sized::Exec(id) => {
            let options = ResizeExecOptions { height: size.rows, width: size.columns };
            api.resize_exec(id, options).await.is_ok()
        }
        Sized::Container(name) => {
            let options = ResizeContainerTTYOptionsBuilder::new()
                .h(i32::from(size.rows))
                .w(i32::from(size.columns))
                .build();
            api.resize_container_tty(name, options).await.is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_however_they_are_cut() {
        let mut whole = vec![1, 0, 0, 0, 0, 0, 0, 3];
        whole.extend(b"out");
        whole.extend([2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 4]);
        whole.extend(b"err\n");
        whole.extend([1, 0, 0, 0, 0, 0, 0, 1, b'!']);
        for length in 1..=whole.len() {
            let (mut out, mut err, mut parts) = (Vec::new(), Vec::new(), Parts::default());
            let mut sink = |stream, bytes: &[u8]| {
                if stream == LogStream::Stderr {
                    err.extend(bytes)
                } else {
                    out.extend(bytes)
                }
                Ok(())
            };
            for piece in whole.chunks(length) {
                parts.take(piece, &mut sink).unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"out!"[..], &b"err\n"[..]), "{length}");
        }
    }

    #[test]
    fn the_exit_code_is_in_the_answer_to_a_wait() {
        assert_eq!(exit_code(br#"{"StatusCode":137,"Error":null}"#), Some(137));
        assert_eq!(exit_code(b"{}"), None);
    }
}
