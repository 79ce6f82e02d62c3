//! What a login speaks over: a socket, or a channel of the login on the host in between; it can be
//! cut from outside.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Failure;
use super::exchange::Offer;
use crate::drivers::ssh::client_config::Family;
use crate::drivers::ssh::transport::LoginError;

/// How long the far side's machine may leave what we sent unacknowledged.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(45);
/// What is under way to one of the hosts behind a jump.
const CARRIED: usize = 64 << 10;
/// How long one host's bytes may go unread before it is cut off: all hosts behind a jump share one
/// connection, and wait with it.
const UNREAD_MAX: Duration = Duration::from_secs(20);
/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 8;

/// Bytes to and from an sshd.
pub(super) struct Wire {
    speaks: Speaks,
    /// Listens to what the server offers.
    offer: Offer,
    /// Resolves when the login's owner lets go of it.
    cut: oneshot::Receiver<()>,
}

pub(super) enum Speaks {
    Socket(TcpStream),
    Channel(DuplexStream),
}

impl Wire {
    /// And what cuts it when dropped.
    pub(super) fn new(speaks: Speaks, offer: Offer) -> (Self, oneshot::Sender<()>) {
        let (knife, cut) = oneshot::channel();
        (Self { speaks, offer, cut }, knife)
    }

    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match Pin::new(&mut self.cut).poll(context) {
            Poll::Ready(_) => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            Poll::Pending => Ok(()),
        }
    }
}

/// Connects a socket to the first address that answers.
pub(super) async fn connect(host: &str, port: u16, family: Family) -> Result<Speaks, Failure> {
    let name = |why: String| Failure::Login(LoginError::Name { why });
    let found = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| name(format!("{host}: {error}")))?
            .collect(),
    };
    let of_family = |address: &SocketAddr| match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    let mut last = None;
    for address in found.into_iter().filter(of_family).take(ADDRESSES_MAX) {
        match TcpStream::connect(address).await {
            Ok(socket) => {
                set_up(&socket);
                return Ok(Speaks::Socket(socket));
            }
            Err(error) => last = Some(format!("{address}: {error}")),
        }
    }
    Err(match last {
        Some(why) => Failure::Login(LoginError::Connect { why }),
        None => name(format!("{host} has no address of the family that is asked for")),
    })
}

/// Carries a login's bytes over a channel of another one.
pub(super) fn carry(channel: Channel<Msg>) -> Speaks {
    let (near, far) = tokio::io::duplex(CARRIED);
    tokio::spawn(async move {
        let (mut from_us, mut to_us) = tokio::io::split(far);
        let (mut from_host, to_host) = channel.split();
        let mut writer = to_host.make_writer();
        let inward = async {
            while let Some(message) = from_host.wait().await {
                match message {
                    ChannelMsg::Data { data } => {
                        let written = timeout(UNREAD_MAX, to_us.write_all(&data)).await;
                        if !matches!(written, Ok(Ok(()))) {
                            break;
                        }
                    }
                    ChannelMsg::Eof | ChannelMsg::Close => break,
                    _ => {}
                }
            }
        };
        let outward = tokio::io::copy(&mut from_us, &mut writer);
        // Either end takes the other along: half a login is none.
        tokio::select! {
            () = inward => {}
            _ = outward => {}
        }
        let _ = to_host.close().await;
    });
    Speaks::Channel(near)
}

/// Small packets go at once; a machine that is gone is noticed. What the system refuses is no loss.
fn set_up(socket: &TcpStream) {
    use rustix::net::sockopt;
    let _ = socket.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let longest = u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_tcp_user_timeout(socket, longest);
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        let before = buffer.filled().len();
        let read = match &mut self.speaks {
            Speaks::Socket(socket) => Pin::new(socket).poll_read(context, buffer),
            Speaks::Channel(channel) => Pin::new(channel).poll_read(context, buffer),
        };
        if let Some(more) = buffer.filled().get(before..).filter(|it| !it.is_empty()) {
            self.offer.hear(more);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(context)?;
        match &mut self.speaks {
            Speaks::Socket(socket) => Pin::new(socket).poll_write(context, bytes),
            Speaks::Channel(channel) => Pin::new(channel).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.speaks {
            Speaks::Socket(socket) => Pin::new(socket).poll_flush(context),
            Speaks::Channel(channel) => Pin::new(channel).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.speaks {
            Speaks::Socket(socket) => Pin::new(socket).poll_shutdown(context),
            Speaks::Channel(channel) => Pin::new(channel).poll_shutdown(context),
        }
    }
}
