//! One command's input and output on a channel of a login.
//!
//! Invariant: nothing is read ahead of the reader but what russh keeps for a channel: a slow reader
//! slows the far side down, it does not fill our memory.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, ReadBuf};

use crate::drivers::ssh::transport::Complaints;

/// What a command prints; what it complains of goes aside.
pub(super) struct Output {
    channel: ChannelReadHalf,
    complaints: Complaints,
    /// Printed, and not yet taken.
    rest: bytes::Bytes,
    ended: bool,
}

impl Output {
    pub(super) fn new(channel: ChannelReadHalf, complaints: Complaints) -> Self {
        Self { channel, complaints, rest: bytes::Bytes::new(), ended: false }
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() && !self.ended {
            let message = {
                let waiting = pin!(self.channel.wait());
                ready!(waiting.poll(context))
            };
            match message {
                Some(ChannelMsg::Data { data }) => self.rest = data,
                Some(ChannelMsg::ExtendedData { data, .. }) => self.complaints.add(&data),
                Some(ChannelMsg::Failure) => {
                    self.complaints.add(b"sshd refuses to start the command\n");
                    self.ended = true;
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    let ended = format!("the command was ended by the signal {signal_name:?}\n");
                    self.complaints.add(ended.as_bytes());
                }
                // What it complains of may follow the end of what it prints.
                Some(ChannelMsg::Close) => self.ended = true,
                None => {
                    self.complaints.add(b"Connection closed\n");
                    self.ended = true;
                }
                Some(_) => {}
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

/// Ends the command's channel when dropped.
pub(super) struct Channel {
    pub(super) channel: Option<ChannelWriteHalf<Msg>>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        let Some(channel) = self.channel.take() else { return };
        // Outside a runtime the login itself has ended or will.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = channel.close().await;
            });
        }
    }
}
