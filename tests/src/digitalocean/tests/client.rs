//! The plainest client: one request on one connection.
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::super::DigitalOcean;

/// What came back.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Got {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }

    pub(super) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

/// A client with a token.
pub(super) struct Client {
    address: String,
    pub(super) authorization: String,
    pub(super) content_type: &'static str,
}

impl Client {
    pub(super) fn of(server: &DigitalOcean) -> Self {
        Self {
            address: server.url().strip_prefix("http://").unwrap().to_owned(),
            authorization: format!("Authorization: Bearer {}\r\n", server.token()),
            content_type: "application/json",
        }
    }

    pub(super) fn get(&self, path: &str) -> Got {
        self.ask("GET", path, None).unwrap()
    }

    pub(super) fn post(&self, path: &str, body: Value) -> Got {
        self.ask("POST", path, Some(body)).unwrap()
    }

    pub(super) fn put(&self, path: &str, body: Value) -> Got {
        self.ask("PUT", path, Some(body)).unwrap()
    }

    pub(super) fn delete(&self, path: &str) -> Got {
        self.ask("DELETE", path, None).unwrap()
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: Option<Value>) -> io::Result<Got> {
        let body = body.map(|body| body.to_string());
        let kind = body.as_ref().map(|b| {
            format!("Content-Type: {}\r\nContent-Length: {}\r\n", self.content_type, b.len())
        });
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nUser-Agent: bee/1\r\n{}{}\r\n{}",
            self.address,
            self.authorization,
            kind.unwrap_or_default(),
            body.unwrap_or_default()
        );
        self.send(request.as_bytes(), Duration::from_secs(20))
    }

    pub(super) fn send(&self, request: &[u8], patience: Duration) -> io::Result<Got> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(request)?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap();
        Ok(Got { status, head, body: all.split_off(end + 4) })
    }
}
