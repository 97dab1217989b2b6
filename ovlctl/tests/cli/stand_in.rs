//! A server on a unix socket that stands where the agent would, with answers given by the test.
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// What it was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// `GET /v1/status`.
    pub line: String,
    /// Null when there was none.
    pub body: Value,
}

/// What it does then.
pub(crate) enum Answer {
    /// Answers as the agent does.
    Json(u16, Value),
    /// Sends these bytes and hangs up.
    Raw(Vec<u8>),
    /// Says nothing, but stays.
    Silence,
    /// Begins well, then sends a byte now and then for ever.
    Trickle,
    /// Sends a head without a length, and then far too much.
    Flood,
}

/// Runs until it is dropped.
pub(crate) struct StandIn {
    dir: TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    pub(crate) fn new(answer: impl FnMut(&Request) -> Answer + Send + 'static) -> StandIn {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("ovl.sock")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = mpsc::channel();
        let seen = Arc::clone(&requests);
        let thread = thread::spawn(move || serve(&listener, &ended, &seen, answer));
        StandIn { dir, requests, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("ovl.sock")
    }

    /// All requests so far, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.end.take());
        // Wakes it from `accept`.
        let _ = UnixStream::connect(self.socket());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    listener: &UnixListener,
    ended: &Receiver<()>,
    seen: &Mutex<Vec<Request>>,
    mut answer: impl FnMut(&Request) -> Answer,
) {
    let over = || matches!(ended.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        if over() {
            return;
        }
        let Some(request) = read(&stream) else {
            continue;
        };
        seen.lock().unwrap().push(request.clone());
        // The client may hang up in the middle: its own affair.
        let _ = match answer(&request) {
            Answer::Json(status, value) => stream.write_all(&json(status, &value)),
            Answer::Raw(bytes) => stream.write_all(&bytes),
            Answer::Trickle => trickle(&mut stream, ended),
            Answer::Flood => flood(&mut stream),
            Answer::Silence => {
                kept.push(stream);
                Ok(())
            }
        };
    }
}

pub(crate) fn json(status: u16, value: &Value) -> Vec<u8> {
    let body = value.to_string();
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn trickle(stream: &mut UnixStream, ended: &Receiver<()>) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n[")?;
    while ended.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
        stream.write_all(b" ")?;
    }
    Ok(())
}

fn flood(stream: &mut UnixStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[")?;
    let block = vec![b' '; 1 << 20];
    for _ in 0..256 {
        stream.write_all(&block)?;
    }
    Ok(())
}

fn read(stream: &UnixStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let line = line.strip_suffix(" HTTP/1.1\r\n")?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header == "\r\n" {
            break;
        }
        let (name, value) = header.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}
