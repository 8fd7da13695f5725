//! The bytes of a connection between the socket and the HTTP layer: who takes nothing of an answer is given up, and what the HTTP
//! layer refuses before there is a request is answered to the page that asked.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client that takes nothing of its answer for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Whoever was refused is heard out for so long, and so far.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 4 << 20;
/// No origin that is answered is longer.
const ORIGIN_BYTES_MAX: usize = 300;
const NAME: &[u8] = b"origin:";
/// What the HTTP layer says of a head that it cannot read. These answers are made below the router, without its headers.
const REFUSALS: [&[u8]; 3] =
    [b"HTTP/1.1 400 Bad Request\r\n", b"HTTP/1.1 414 URI Too Long\r\n", b"HTTP/1.1 431 Request Header Fields Too Large\r\n"];
/// Such an answer has a few headers of its own and no body.
const REFUSAL_BYTES_MAX: usize = 200;

/// A connection's stream.
pub(crate) struct Stream<S> {
    stream: S,
    waiting: Option<Pin<Box<tokio::time::Sleep>>>,
    origin: Origin,
    /// A refusal with more headers than it was made with, and how much of it went out.
    refusal: Option<(Vec<u8>, usize)>,
    /// So many bytes are still heard of whom was refused.
    linger_bytes: usize,
    is_shut: bool,
}

/// Looks for `Origin` in what is read, line by line. A body may hold such a line too: it changes nothing but an empty refusal.
#[derive(Default)]
struct Origin {
    found: Option<Vec<u8>>,
    /// The beginning of the line that is being read, as far as it may be one of `Origin`.
    line: Vec<u8>,
    /// The rest of the line is not looked at.
    skips: bool,
}

impl Origin {
    fn read(&mut self, mut bytes: &[u8]) {
        loop {
            let end = memchr::memchr(b'\n', bytes);
            if !self.skips {
                let piece = &bytes[..end.unwrap_or(bytes.len())];
                let room = ORIGIN_BYTES_MAX.saturating_sub(self.line.len());
                self.line.extend_from_slice(&piece[..piece.len().min(room + 1)]);
                let length = self.line.len().min(NAME.len());
                self.skips = !self.line[..length].eq_ignore_ascii_case(&NAME[..length]) || self.line.len() > ORIGIN_BYTES_MAX;
            }
            let Some(end) = end else { return };
            if !self.skips && self.line.len() > NAME.len() {
                let value = self.line[NAME.len()..].trim_ascii();
                self.found = Some(value.to_vec()).filter(|value| value.iter().all(u8::is_ascii_graphic) && !value.is_empty());
            }
            self.line.clear();
            self.skips = false;
            bytes = &bytes[end + 1..];
        }
    }
}

impl<S> Stream<S> {
    /// A stream of which nothing was read.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, waiting: None, origin: Origin::default(), refusal: None, linger_bytes: 0, is_shut: false }
    }

    /// Starts to wait where nothing goes on, and fails when that took too long.
    fn watched<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Takes a refusal of the HTTP layer, to send it with what lets the page read it.
    fn takes(&mut self, bytes: &[u8]) -> bool {
        let Some(line) = REFUSALS.iter().find(|line| bytes.starts_with(line)) else { return false };
        // The router's answers of these statuses name a cache control.
        let is_routers = memchr::memmem::find(bytes, b"cache-control").is_some();
        if bytes.len() > REFUSAL_BYTES_MAX || !bytes.ends_with(b"\r\n\r\n") || is_routers {
            return false;
        }
        let mut refusal = [line, &b"cache-control: no-store\r\n"[..]].concat();
        if let Some(origin) = &self.origin.found {
            refusal.extend_from_slice(b"access-control-allow-origin: ");
            refusal.extend_from_slice(origin);
            refusal.extend_from_slice(b"\r\naccess-control-allow-credentials: true\r\nvary: Origin\r\n");
        }
        refusal.extend_from_slice(&bytes[line.len()..]);
        self.refusal = Some((refusal, 0));
        self.linger_bytes = LINGER_BYTES_MAX;
        true
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    /// Writes what is left of a refusal.
    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((refusal, sent)) = &mut self.refusal {
            if *sent == refusal.len() {
                self.refusal = None;
                break;
            }
            let outcome = Pin::new(&mut self.stream).poll_write(context, &refusal[*sent..]);
            match outcome {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => *sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.watched(Poll::Pending, context),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Stream<S> {
    /// Hears out whoever was refused: a connection that closes with something unread breaks, and the answer with it.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 4096];
        while self.linger_bytes > 0 {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.linger_bytes = self.linger_bytes.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_TIMEOUT)));
                    return waiting.as_mut().poll(context);
                }
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.origin.read(&buffer.filled()[before..]);
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_refusal(context))?;
        if self.takes(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(outcome, context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_refusal(context))?;
        if let Some(first) = slices.iter().find(|slice| !slice.is_empty())
            && self.takes(first)
        {
            return Poll::Ready(Ok(first.len()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watched(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(context))?;
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.watched(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(context))?;
        if !self.is_shut {
            let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
            ready!(self.watched(outcome, context))?;
            self.is_shut = true;
        }
        ready!(self.poll_linger(context));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_found_however_it_arrives() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\noRiGin:  https://a.example \r\nX: 1\r\n\r\n";
        for size in 1..head.len() {
            let mut origin = Origin::default();
            head.chunks(size).for_each(|piece| origin.read(piece));
            assert_eq!(origin.found.as_deref(), Some(&b"https://a.example"[..]), "pieces of {size}");
        }
        let long = format!("Origin: https://{}\n", "a".repeat(400));
        for none in ["", "\n", "Origin:", "Origin: \n", "Origin: a b\n", "X-Origin: a\n", "Original: a\n", &long] {
            let mut origin = Origin::default();
            origin.read(none.as_bytes());
            assert_eq!(origin.found, None, "{none:?}");
        }
    }
}
