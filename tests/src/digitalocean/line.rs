//! A connection that can be reset or cut off from above HTTP.
//!
//! hyper closes a connection politely. A handler that wants it otherwise throws the connection's
//! [`Switch`] and answers: the first write after that finds the switch and ends the connection.
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

const OPEN: u8 = 0;
const RESET: u8 = 1;
const CUT: u8 = 2;
const DEAD: u8 = 3;

/// How a connection is ended by its handler.
#[derive(Debug, Clone, Default)]
pub(super) struct Switch(Arc<AtomicU8>);

impl Switch {
    /// Not a byte more is sent, and the peer gets an RST.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Ordering::SeqCst);
    }

    /// The head and half the body are sent, and then the connection ends.
    pub(super) fn cut(&self) {
        self.0.store(CUT, Ordering::SeqCst);
    }
}

impl Connected<IncomingStream<'_, Lines>> for Switch {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.io().switch.clone()
    }
}

/// The listener that gives out [`Line`]s.
pub(super) struct Lines(pub(super) TcpListener);

impl Listener for Lines {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, peer)) => return (Line { stream, switch: Switch::default() }, peer),
                // Out of descriptors, mostly: others may close theirs.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// One connection.
pub(super) struct Line {
    stream: TcpStream,
    switch: Switch,
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.switch.0.load(Ordering::SeqCst) {
            RESET => {
                self.stream.set_zero_linger()?;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            CUT => {
                let kept = half(buf);
                let sent = Pin::new(&mut self.stream).poll_write(cx, &buf[..kept]);
                if sent.is_ready() {
                    self.switch.0.store(DEAD, Ordering::SeqCst);
                }
                sent
            }
            DEAD => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            OPEN.. => Pin::new(&mut self.stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How many bytes the head and half of what follows it are.
fn half(buf: &[u8]) -> usize {
    let head = buf.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
    head + (buf.len() - head) / 2
}
