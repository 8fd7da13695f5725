//! Mail: by SMTP where the settings name a server, else as files in a mailbox below the data directory. No mail holds a password, a secret
//! or an API key; a link with a one-time code is the most that one holds.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message as Envelope, Tokio1Executor};
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Mail;

/// A mail to one address.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub to: String,
    pub subject: String,
    pub text: String,
}

/// Where mail goes.
pub(crate) struct Mailer {
    from: lettre::message::Mailbox,
    way: Way,
    waiting: mpsc::Sender<Message>,
    count: AtomicU64,
    sending: tokio::sync::Semaphore,
}

enum Way {
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
    Files(PathBuf),
}

/// Why a mail was not delivered.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// It never will be.
    Never(String),
    /// It may be later.
    Later(String),
}

/// Mails that wait to be sent.
const WAITING_MAX: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(30);
/// When a mail that could not be sent is tried again.
const RETRIES: [Duration; 5] =
    [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(3600), Duration::from_secs(6 * 3600)];
/// Mails that are on their way at a time.
const SENDING_MAX: usize = 8;

const END: &str = "\n\n-- \nSluice. No mail of Sluice holds an API secret: never share an API secret or send it over email.\n";

impl Mailer {
    /// A mailer as the settings say; `files` is where mails go without a server.
    pub(crate) fn new(settings: &Mail, files: PathBuf) -> Result<(Self, mpsc::Receiver<Message>), String> {
        let from = settings.from.parse().map_err(|_| format!("mail.from: `{}` is no address", settings.from))?;
        let way = if settings.smtp_url.is_empty() {
            Way::Files(files)
        } else {
            // The URL holds a password: an error does not repeat it.
            let built = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.smtp_url);
            let built = built.map_err(|_| "mail.smtp_url is no URL such as smtps://user:password@mail.example:465".to_owned())?;
            Way::Smtp(Box::new(built.timeout(Some(TIMEOUT)).build()))
        };
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        Ok((Self { from, way, waiting, count: AtomicU64::new(0), sending: tokio::sync::Semaphore::new(SENDING_MAX) }, queue))
    }

    /// Sends a mail soon, without waiting for it.
    pub(crate) fn send(&self, message: Message) {
        if self.waiting.try_send(message).is_err() {
            tracing::warn!("a mail was dropped: too many wait");
        }
    }

    /// Sends a mail now.
    pub(crate) async fn deliver(&self, message: &Message) -> Result<(), Undelivered> {
        let _place = self.sending.acquire().await;
        let never = |error: &dyn std::fmt::Display| Undelivered::Never(error.to_string());
        let to = message.to.parse().map_err(|error: lettre::address::AddressError| never(&error))?;
        let envelope = Envelope::builder()
            .from(self.from.clone())
            .to(to)
            .subject(&message.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(format!("{}{END}", message.text.trim_end()))
            .map_err(|error| never(&error))?;
        match &self.way {
            Way::Smtp(server) => match server.send(envelope).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_permanent() || error.is_client() => Err(never(&error)),
                Err(error) => Err(Undelivered::Later(error.to_string())),
            },
            Way::Files(dir) => {
                let number = self.count.fetch_add(1, Ordering::Relaxed);
                let path = dir.join(format!("{:013}-{number:06}.eml", clock::now().0));
                let written = async {
                    tokio::fs::create_dir_all(dir).await?;
                    tokio::fs::write(&path, envelope.formatted()).await
                };
                written.await.map_err(|error: std::io::Error| Undelivered::Later(error.to_string()))
            }
        }
    }
}

/// Sends what waits until nothing can come any more.
pub(crate) async fn run(app: std::sync::Arc<crate::app::App>, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        let app = app.clone();
        tokio::spawn(async move {
            for pause in RETRIES.iter().map(Some).chain([None]) {
                match (app.mailer.deliver(&message).await, pause) {
                    (Ok(()), _) => return,
                    (Err(Undelivered::Later(_)), Some(pause)) => tokio::time::sleep(*pause).await,
                    (Err(Undelivered::Later(error) | Undelivered::Never(error)), _) => {
                        tracing::warn!(%error, "a mail was not delivered");
                        return;
                    }
                }
            }
        });
    }
}
