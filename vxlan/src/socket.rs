//! One netlink socket, used in strict alternation: a request, or a batch of them, then its answers.
//!
//! Written by hand rather than taken from `netlink-proto`: here every wait has a bound, an answer
//! is matched by its sequence number, an interrupted dump is repeated, and a message that does not
//! parse costs that message only.
//!
//! Cancel-safe: answers to a request that was dropped half-way are recognised and skipped later.

use std::{
    fmt::Debug,
    future::poll_fn,
    io,
    ops::Range,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkBuffer, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
    NlasIterator,
};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};

use crate::error::{KernelError, NetlinkError};

/// Longest wait for the answers to one request or batch. The kernel works while the request is
/// sent, so a longer wait means that an answer was lost, or that another program holds the
/// kernel's network lock.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Most messages sent at once. The answers gather in the socket while they are worked off; many
/// more might not fit, and those that do not fit are lost.
const MAX_BATCH: usize = 128;

/// Receive buffer in bytes, beyond the system's limit for unprivileged programs: room for
/// [`MAX_BATCH`] refusals with their texts, many times over.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Size of one read, in bytes. The kernel fills at most 32 KiB in a dump.
const READ_SIZE: usize = 64 << 10;

/// How often a dump is repeated when the table changed while it was read.
const MAX_DUMPS: usize = 10;

/// Offset of the attributes behind the error code of an acknowledgement whose request is left out
/// (`NETLINK_CAP_ACK`): the request's header.
const CAPPED_REQUEST: usize = 16;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A socket of one netlink protocol, in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: TokioSocket,
    next_sequence: u32,
    buffer: Vec<u8>,
}

/// A message and its `NLM_F_*` flags beyond `REQUEST` and `ACK`.
#[derive(Debug)]
pub(crate) struct Request<M> {
    pub(crate) message: M,
    pub(crate) flags: u16,
}

impl<M> Request<M> {
    pub(crate) fn new(message: M, flags: u16) -> Self {
        Self { message, flags }
    }
}

/// A message type of a netlink protocol.
pub(crate) trait Protocol: NetlinkSerializable + NetlinkDeserializable + Debug {}
impl<M: NetlinkSerializable + NetlinkDeserializable + Debug> Protocol for M {}

impl Netlink {
    /// Needs a tokio runtime, and `CAP_NET_ADMIN` over the namespace.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        setsockopt(&socket.socket_ref(), sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        let inner = socket.socket_mut();
        // Kernels before 4.20 lack some of these. They only cost the kernel's own words, and rows
        // of other devices in a dump, which are left out when they are parsed.
        let _ = inner.set_ext_ack(true);
        let _ = inner.set_cap_ack(true);
        let _ = inner.set_netlink_get_strict_chk(true);
        inner.bind_auto()?;
        Ok(Self { socket, next_sequence: 1, buffer: Vec::new() })
    }

    /// The socket itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        let socket: &netlink_sys::Socket = self.socket.socket_ref();
        socket.as_fd()
    }

    /// Gives its memory back, for a socket that is only kept open from now on.
    pub(crate) fn rest(&mut self) {
        self.buffer = Vec::new();
    }

    /// Carries out requests in order, and tells for each whether the kernel refused it. A refusal
    /// does not stop those behind it.
    pub(crate) async fn batch<M: Protocol>(
        &mut self,
        requests: Vec<Request<M>>,
    ) -> Result<Vec<Result<(), KernelError>>, NetlinkError> {
        let mut results = Vec::with_capacity(requests.len());
        let mut rest = requests.into_iter().peekable();
        while rest.peek().is_some() {
            let chunk = rest.by_ref().take(MAX_BATCH).collect();
            results.extend(timed(self.exchange(chunk, false)).await?);
        }
        Ok(results)
    }

    /// Carries out one request.
    pub(crate) async fn request<M: Protocol>(
        &mut self,
        request: Request<M>,
    ) -> Result<(), NetlinkError> {
        let results = timed(self.exchange(vec![request], false)).await?;
        Ok(results.into_iter().collect::<Result<(), _>>()?)
    }

    /// Sends messages that the kernel takes all or none of, the last of them a closing mark that
    /// is never answered. The first refusal stands for all.
    pub(crate) async fn transaction<M: Protocol>(
        &mut self,
        requests: Vec<Request<M>>,
    ) -> Result<(), NetlinkError> {
        let results = timed(self.exchange(requests, true)).await?;
        Ok(results.into_iter().collect::<Result<(), _>>()?)
    }

    /// Asks for one object; `None` when the kernel says that there is none.
    pub(crate) async fn get<M: Protocol>(&mut self, message: M) -> Result<Option<M>, NetlinkError> {
        match timed(self.read(message, NLM_F_ACK)).await {
            Ok((found, _)) => Ok(found.into_iter().next()),
            Err(e) if matches!(e.errno(), Some(Errno::ENODEV | Errno::ENOENT)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads a table whole. Repeated when it changed meanwhile.
    pub(crate) async fn dump<M: Protocol + Clone>(
        &mut self,
        message: M,
    ) -> Result<Vec<M>, NetlinkError> {
        for _ in 0..MAX_DUMPS {
            let (found, interrupted) = timed(self.read(message.clone(), NLM_F_DUMP)).await?;
            if !interrupted {
                return Ok(found);
            }
        }
        Err(NetlinkError::Interrupted(MAX_DUMPS))
    }

    /// All requests in one write, and only the last one asks for an acknowledgement: refusals come
    /// unasked, and in order. In a transaction the last but one does.
    async fn exchange<M: Protocol>(
        &mut self,
        requests: Vec<Request<M>>,
        transaction: bool,
    ) -> Result<Vec<Result<(), KernelError>>, NetlinkError> {
        let count = requests.len();
        let Some(acknowledged) = count.checked_sub(1 + usize::from(transaction)) else {
            return Ok(Vec::new());
        };
        let sequences = self.take_sequences(count);
        let mut bytes = Vec::new();
        let numbered = requests.into_iter().zip(sequences.clone());
        for (index, (request, sequence)) in numbered.enumerate() {
            let ack = if index == acknowledged { NLM_F_ACK } else { 0 };
            let flags = request.flags | NLM_F_REQUEST | ack;
            append(&mut bytes, request.message, flags, sequence);
        }
        self.send(&bytes).await?;
        let mut results = vec![Ok(()); count];
        loop {
            for (index, result) in self.outcomes::<M>(&sequences).await? {
                let is_last = index == acknowledged || (transaction && result.is_err());
                if let Some(slot) = results.get_mut(index) {
                    *slot = result;
                }
                if is_last {
                    return Ok(results);
                }
            }
        }
    }

    /// The acknowledgements in the next datagram, each with the position of its request.
    async fn outcomes<M: Protocol>(
        &mut self,
        sequences: &Range<u32>,
    ) -> Result<Vec<(usize, Result<(), KernelError>)>, NetlinkError> {
        let answers = self.receive::<M>(sequences).await?;
        let read = |answer: NetlinkMessage<M>| match answer.payload {
            NetlinkPayload::Error(message) => {
                let index = answer.header.sequence_number - sequences.start;
                Some((index as usize, outcome(&message, answer.header.flags)))
            }
            _ => None,
        };
        Ok(answers.into_iter().filter_map(read).collect())
    }

    /// Sends one question and gathers its answers. The flag tells whether the table changed.
    async fn read<M: Protocol>(
        &mut self,
        message: M,
        flags: u16,
    ) -> Result<(Vec<M>, bool), NetlinkError> {
        let sequences = self.take_sequences(1);
        let mut bytes = Vec::new();
        append(&mut bytes, message, NLM_F_REQUEST | flags, sequences.start);
        self.send(&bytes).await?;
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            for answer in self.receive::<M>(&sequences).await? {
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Done(done) if done.code >= 0 => {
                        return Ok((found, interrupted));
                    }
                    NetlinkPayload::Done(done) => {
                        return Err(refusal(done.code, None).into());
                    }
                    NetlinkPayload::Error(message) => {
                        outcome(&message, answer.header.flags)?;
                        return Ok((found, interrupted));
                    }
                    _ => {}
                }
            }
        }
    }

    fn take_sequences(&mut self, count: usize) -> Range<u32> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // Zero is what the kernel puts on messages that answer nothing.
        let start = match self.next_sequence.checked_add(count) {
            Some(_) => self.next_sequence,
            None => 1,
        };
        self.next_sequence = start + count;
        start..self.next_sequence
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), NetlinkError> {
        let kernel = SocketAddr::new(0, 0);
        poll_fn(|cx| self.socket.poll_send_to(cx, bytes, &kernel))
            .await
            .map_err(NetlinkError::Socket)?;
        Ok(())
    }

    /// The next datagram's messages that answer one of `sequences`.
    async fn receive<M: Protocol>(
        &mut self,
        sequences: &Range<u32>,
    ) -> Result<Vec<NetlinkMessage<M>>, NetlinkError> {
        self.buffer.clear();
        self.buffer.reserve(READ_SIZE);
        let from = self.socket.recv_from(&mut self.buffer).await.map_err(NetlinkError::Socket)?;
        if from.port_number() != 0 {
            // Another process, not the kernel.
            return Ok(Vec::new());
        }
        Ok(messages(&self.buffer)
            .filter(|(sequence, _)| sequences.contains(sequence))
            .filter_map(|(_, bytes)| parse(bytes))
            .collect())
    }
}

async fn timed<T>(work: impl Future<Output = Result<T, NetlinkError>>) -> Result<T, NetlinkError> {
    tokio::time::timeout(ANSWER_TIMEOUT, work)
        .await
        .unwrap_or(Err(NetlinkError::Timeout(ANSWER_TIMEOUT)))
}

fn append<M: NetlinkSerializable>(bytes: &mut Vec<u8>, message: M, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::new(
        netlink_packet_core::NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(message),
    );
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len(), 0);
    message.serialize(&mut bytes[start..]);
    // The next header starts on a multiple of four (NLMSG_ALIGN).
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Splits a datagram into (sequence number, bytes) of its messages. What is cut short is left out.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let header = NetlinkBuffer::new_checked(rest).ok()?;
        let (length, sequence) = (header.length() as usize, header.sequence_number());
        let message = rest.get(..length).filter(|_| length > 0)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((sequence, message))
    })
}

fn parse<M: Protocol>(bytes: &[u8]) -> Option<NetlinkMessage<M>> {
    NetlinkMessage::deserialize(bytes)
        .inspect_err(|error| tracing::debug!(%error, "netlink message left out: it does not parse"))
        .ok()
}

fn outcome(message: &ErrorMessage, flags: u16) -> Result<(), KernelError> {
    let Some(code) = message.code else {
        return Ok(());
    };
    let attributes = message.header.get(CAPPED_REQUEST..).filter(|_| flags & NLM_F_ACK_TLVS != 0);
    Err(refusal(code.get(), attributes.and_then(kernel_text)))
}

/// The text among the attributes of an extended acknowledgement.
fn kernel_text(attributes: &[u8]) -> Option<String> {
    let text = NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)?;
    let bytes = text.value();
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(&bytes[..end]).trim_end_matches('.').to_owned())
}

fn refusal(code: i32, message: Option<String>) -> KernelError {
    KernelError { errno: Errno::from_raw(code.saturating_neg()), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::RouteNetlinkMessage;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_split_and_parsed_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            for (_, message) in messages(&bytes) {
                let _ = parse::<RouteNetlinkMessage>(message);
            }
            let _ = kernel_text(&bytes);
        }
    }

    #[test]
    fn several_messages_of_one_datagram_are_told_apart() {
        let mut bytes = Vec::new();
        for sequence in [7, 8] {
            let message = RouteNetlinkMessage::GetLink(Default::default());
            append(&mut bytes, message, NLM_F_REQUEST, sequence);
        }
        let sequences: Vec<u32> = messages(&bytes).map(|(sequence, _)| sequence).collect();
        assert_eq!(sequences, [7, 8]);
        let cut = &bytes[..bytes.len() - 1];
        assert_eq!(messages(cut).count(), 1);
    }
}
