//! Jobs over the socket of the data directory: wishes whose answer or whose input goes on behind the first line, in frames of a kind, a length
//! and so many bytes. A connection that ends in the middle of a frame is told from one that said its end.

use std::io::{self, Read, Write};
use std::sync::Arc;

use metastore::{By, MetaError};
use model::ProjectId;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::admin;
use crate::app::App;
use crate::jobs::asked::Wish;
use crate::jobs::export::{self, Files};
use crate::jobs::import::HandedOver;
use crate::jobs::{Running, Stop, import};

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Bytes of a file.
    Data = b'd',
    /// The name of the file that the next bytes belong to.
    Next = b'n',
    /// Nothing: everything was said.
    End = b'e',
}

/// The longest frame.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

impl Kind {
    fn of(byte: u8) -> io::Result<Self> {
        [Self::Data, Self::Next, Self::End].into_iter().find(|kind| *kind as u8 == byte).ok_or_else(|| odd("an unknown frame"))
    }

    fn head(self, bytes: &[u8]) -> [u8; 5] {
        let [a, b, c, d] = (bytes.len() as u32).to_be_bytes();
        [self as u8, a, b, c, d]
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes a frame.
pub(crate) fn write_frame(out: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&kind.head(bytes))?;
    out.write_all(bytes)
}

/// Reads a frame.
pub(crate) fn read_frame(from: &mut impl Read) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let mut bytes = vec![0; len(head)?];
    from.read_exact(&mut bytes)?;
    Ok((Kind::of(head[0])?, bytes))
}

fn len([_, rest @ ..]: [u8; 5]) -> io::Result<usize> {
    let len = u32::from_be_bytes(rest) as usize;
    if len <= FRAME_BYTES_MAX { Ok(len) } else { Err(odd("a frame is too long")) }
}

/// Does what a wish asks for and answers it.
pub(crate) async fn serve(app: &Arc<App>, wish: Wish, from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let answer = match wish {
        Wish::Export { on, asked } => {
            let app = app.clone();
            let begun = blocking({
                let app = app.clone();
                move || {
                    let by = admin::by(&app, on.account.as_deref())?;
                    let (job, report) = export::start(&app, ProjectId(on.project), &asked, &by)?;
                    Ok((app.jobs.begin(&job), asked, report))
                }
            });
            match begun.await {
                Ok((Some(running), asked, report)) => {
                    line(&mut to, &json!({ "ok": { "job": running.id } })).await?;
                    return send(&app, running, asked, report, to).await;
                }
                Ok(_) => json!({ "error": "this job runs already" }),
                Err(error) => json!({ "error": error.to_string() }),
            }
        }
        Wish::Files { project, job } => match app.jobs.find(ProjectId(project), job) {
            None => json!({ "error": "this import does not run any more" }),
            Some(running) if !running.attach() => json!({ "error": "another command hands these files over" }),
            Some(running) => {
                let outcome = receive(app, &running, from).await;
                let said = outcome.as_ref().map(|_| ()).map_err(shown);
                let (app, running) = (app.clone(), running.clone());
                let ended = tokio::task::spawn_blocking(move || app.jobs.end(&app, &running, outcome));
                let _ = ended.await;
                said.map_or_else(|error| json!({ "error": error }), |()| json!({ "ok": {} }))
            }
        },
        wish => {
            let app = app.clone();
            match blocking(move || short(&app, wish)).await {
                Ok(value) => json!({ "ok": value }),
                Err(error) => json!({ "error": error.to_string() }),
            }
        }
    };
    line(&mut to, &answer).await
}

fn shown(stop: &Stop) -> String {
    match stop {
        Stop::Cancelled => "the import was cancelled".to_owned(),
        Stop::Server => "the server stops: run the same command again once it runs".to_owned(),
        Stop::Failed(why) => why.clone(),
    }
}

async fn line(to: &mut (impl AsyncWrite + Unpin), answer: &Value) -> io::Result<()> {
    to.write_all(format!("{answer}\n").as_bytes()).await?;
    to.flush().await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, MetaError> + Send + 'static) -> Result<T, MetaError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(MetaError::Invalid("the command failed".to_owned())))
}

/// A wish that is answered in a line.
fn short(app: &Arc<App>, wish: Wish) -> Result<Value, MetaError> {
    match wish {
        Wish::Import { on, asked, secret } => {
            let by: By = admin::by(app, on.account.as_deref())?;
            let job = import::start(app, ProjectId(on.project), &asked, secret, &by)?;
            let known = app.metastore.job_parts(job.project, job.id)?.into_iter().filter(|part| import::has_file(app, &job, part));
            Ok(json!({ "job": job.id, "known": known.map(|part| part.number).collect::<Vec<_>>() }))
        }
        Wish::Files { .. } | Wish::Export { .. } => Err(MetaError::Invalid("this wish goes on in frames".to_owned())),
    }
}

/// Takes the files that are handed over and stores them, one after the other; what came of all.
async fn receive(app: &Arc<App>, running: &Arc<Running>, mut from: impl AsyncRead + Unpin) -> Result<String, Stop> {
    let gone = |_| Stop::Failed("the command that handed the files over is gone: run it again".to_owned());
    let mut current: Option<HandedOver> = None;
    loop {
        running.check()?;
        let (kind, bytes) = tokio::select! {
            frame = frame(&mut from) => frame.map_err(gone)?,
            stop = running.stopped() => return Err(stop),
        };
        if kind == Kind::Data {
            if let Some(file) = &mut current {
                tokio::task::block_in_place(|| file.take(&bytes))?;
                running.progress().bytes += bytes.len() as u64;
            }
            continue;
        }
        if let Some(file) = current.take() {
            let (app, running) = (app.clone(), running.clone());
            let stored = tokio::task::spawn_blocking(move || file.store(&app, &running));
            stored.await.unwrap_or_else(|_| Err(Stop::Failed("the import failed: the log knows more".to_owned())))?;
        }
        if kind == Kind::End {
            let (app, running) = (app.clone(), running.clone());
            let ended = tokio::task::spawn_blocking(move || import::finish(&app, &running));
            return ended.await.unwrap_or_else(|_| Err(Stop::Failed("the import failed: the log knows more".to_owned())));
        }
        let name = String::from_utf8_lossy(&bytes).into_owned();
        let (number, name) = name.split_once(' ').ok_or_else(|| Stop::Failed("a file has no number".to_owned()))?;
        let number = number.parse().map_err(|_| Stop::Failed("a file has no number".to_owned()))?;
        current = HandedOver::begin(app, running, number, name)?;
    }
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head).await?;
    let mut bytes = vec![0; len(head)?];
    from.read_exact(&mut bytes).await?;
    Ok((Kind::of(head[0])?, bytes))
}

/// The files of an export on their way to the command.
struct Sent(mpsc::Sender<(Kind, Vec<u8>)>, Vec<u8>);

impl Sent {
    fn send(&self, kind: Kind, bytes: Vec<u8>) -> io::Result<()> {
        self.0.blocking_send((kind, bytes)).map_err(|_| io::Error::other("whoever asked for it is gone"))
    }
}

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
        if self.1.len() >= FRAME_BYTES_MAX / 4 {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        for piece in std::mem::take(&mut self.1).chunks(FRAME_BYTES_MAX) {
            self.send(Kind::Data, piece.to_vec())?;
        }
        Ok(())
    }
}

impl Files for Sent {
    fn next(&mut self, kind: &str) -> io::Result<()> {
        self.flush()?;
        self.send(Kind::Next, kind.as_bytes().to_vec())
    }
}

/// Sends the files of an export, and in a last line what came of it.
async fn send(
    app: &Arc<App>,
    running: Arc<Running>,
    asked: crate::jobs::asked::Export,
    report: model::report::Export,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    running.attach();
    let (frames, mut arriving) = mpsc::channel(4);
    let work = {
        let (app, running) = (app.clone(), running.clone());
        tokio::task::spawn_blocking(move || {
            let mut files = Sent(frames, Vec::new());
            let outcome = export::run(&app, &running, &asked, report, &mut files).and_then(|text| Ok(files.flush().map(|()| text)?));
            let said = outcome.as_ref().map(|_| ()).map_err(|stop| match stop {
                Stop::Cancelled => "the export was cancelled".to_owned(),
                other => shown(other),
            });
            let rows = running.progress().records;
            app.jobs.end(&app, &running, outcome);
            said.map(|()| rows)
        })
    };
    let mut sent = Ok(());
    while let Some((kind, bytes)) = arriving.recv().await {
        if sent.is_ok() {
            sent = async {
                to.write_all(&kind.head(&bytes)).await?;
                to.write_all(&bytes).await
            }
            .await;
        }
        if sent.is_err() {
            // Nobody reads: the work ends at its next frame.
            arriving.close();
        }
    }
    let said = work.await.unwrap_or_else(|_| Err("the export failed: the log knows more".to_owned()));
    sent?;
    to.write_all(&Kind::End.head(&[])).await?;
    let answer = match said {
        Ok(rows) => json!({ "ok": { "job": running.id, "rows": rows } }),
        Err(error) => json!({ "error": error }),
    };
    line(&mut to, &answer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut sent = Vec::new();
        for (kind, bytes) in [(Kind::Next, &b"events"[..]), (Kind::Data, b"abc"), (Kind::End, b"")] {
            write_frame(&mut sent, kind, bytes).unwrap();
        }
        let mut from = sent.as_slice();
        assert_eq!(read_frame(&mut from).unwrap(), (Kind::Next, b"events".to_vec()));
        assert_eq!(read_frame(&mut from).unwrap(), (Kind::Data, b"abc".to_vec()));
        assert_eq!(read_frame(&mut from).unwrap().0, Kind::End);
        assert!(read_frame(&mut &sent[..8]).is_err(), "half a frame is none");
        assert!(read_frame(&mut &[b'd', 255, 0, 0, 0][..]).is_err(), "nobody sends so long a frame");
    }
}
