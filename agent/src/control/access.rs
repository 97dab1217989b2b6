//! Who may do what over the control socket.
//!
//! The kernel says which user connected; nothing that is sent counts. The socket's mode decides who
//! can connect at all: root and the agent's user, and the members of the group that may read.

use std::fmt;
use std::net::Ipv4Addr;

use axum::Json;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use nix::unistd::geteuid;

use super::api;
use crate::config::Group;
use crate::unix_socket::Limited;

/// Who may do what.
#[derive(Clone, Debug)]
pub struct Access {
    /// The agent's own user, who may do all, as root may.
    me: u32,
    /// The group that may read.
    readers: Option<String>,
}

impl Access {
    /// Everything for root and this process's user; reading for the members of `readers`.
    pub fn of(readers: Option<&Group>) -> Access {
        Access { me: geteuid().as_raw(), readers: readers.map(|group| group.name.clone()) }
    }

    /// Whether a user may send a request of this method; else why not.
    fn permits(&self, user: Option<u32>, method: &Method) -> Result<(), Denied> {
        if user.is_some_and(|user| user == 0 || user == self.me) {
            return Ok(());
        }
        let who = user.map_or_else(|| "an unknown user".to_owned(), |user| format!("user {user}"));
        match (&self.readers, user) {
            (Some(_), Some(_)) if matches!(*method, Method::GET | Method::HEAD) => Ok(()),
            (Some(group), _) => Err(Denied(format!(
                "{who} may only read: root alone may change anything, try it with sudo; members of group {group} may read"
            ))),
            (None, _) => Err(Denied(format!(
                "{who} may not use this agent: root alone may, try it with sudo; the agent's setting control-group lets a group read"
            ))),
        }
    }
}

/// The user at the other end of a connection, if the kernel tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) Option<u32>);

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Peer {
        Peer(stream.io().peer_user())
    }
}

/// Who asks; every request has it. In words for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A user of this host, by number, if the kernel tells.
    User(Option<u32>),
    /// The agent of another host, by its address.
    Host(Ipv4Addr),
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asker::User(Some(user)) => write!(f, "user {user} of this host"),
            Asker::User(None) => f.write_str("user unknown of this host"),
            Asker::Host(from) => write!(f, "the agent of {from}"),
        }
    }
}

/// Lets through what is permitted.
pub(super) async fn guard(
    State(access): State<Access>,
    ConnectInfo(Peer(user)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    match access.permits(user, request.method()) {
        Ok(()) => {
            request.extensions_mut().insert(Asker::User(user));
            next.run(request).await
        }
        Err(denied) => denied.into_response(),
    }
}

/// Not for this user; why, as one sentence.
struct Denied(String);

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        (StatusCode::FORBIDDEN, Json(api::Error { error: self.0 })).into_response()
    }
}
