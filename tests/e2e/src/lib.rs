//! Drives the real binary: a server in a directory of its own, killed with it.

pub mod golden;
pub mod mutate;
pub mod source;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub mod raw;

/// A running server with one project whose credentials are known.
pub struct TestServer {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub base: String,
    // Goes before the directory that it lies in.
    _disk: Option<SmallDisk>,
    dir: tempfile::TempDir,
}

/// The server that is tested: `SLUICE_BIN`, or the one that was built beside the tests.
pub fn binary() -> PathBuf {
    match std::env::var_os("SLUICE_BIN") {
        Some(path) => path.into(),
        // Tests lie in `target/debug/deps`, the binary one folder above.
        None => std::env::current_exe()
            .expect("a test has a path")
            .parent()
            .and_then(|deps| deps.parent())
            .expect("it lies in a target")
            .join("sluice"),
    }
}

impl TestServer {
    /// Starts a server with project 1: token `test_token`, key `test_key`, secret `test_secret`, owner `o@example.com`.
    pub fn start() -> Self {
        Self::start_with("")
    }

    fn fill(&self) {
        self.cli(&["account", "create", "--email", "o@example.com", "--password-stdin"], "correct horse");
        let project = ["project", "create", "--owner", "o@example.com", "--name", "P", "--token", "test_token", "--api-key", "test_key"];
        self.cli(&[&project[..], &["--api-secret", "test_secret", "--allow-weak"]].concat(), "");
    }

    /// As [`TestServer::start`], with settings of its own.
    pub fn start_with(settings: &str) -> Self {
        let server = Self::empty_with(settings);
        server.fill();
        server
    }

    /// As [`TestServer::start`], logging nothing but warnings: a server that is measured.
    pub fn quiet() -> Self {
        let mut server = Self::empty();
        server.kill();
        server.restart_quiet();
        server.fill();
        server
    }

    /// Starts an ended server again on the same data; it logs nothing but warnings.
    pub fn restart_quiet(&mut self) {
        (self.child, self.base) = spawn_logging(self.dir.path(), "warn");
    }

    /// Starts a server on an empty data directory.
    pub fn empty() -> Self {
        Self::empty_with("")
    }

    /// As [`TestServer::empty`], with settings of its own.
    pub fn empty_with(settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("sluice.toml"), settings).expect("a settings file");
        let (child, base) = spawn(dir.path());
        Self { child, base, _disk: None, dir }
    }

    /// Runs a command against the server's data and returns what it printed.
    pub fn cli(&self, args: &[&str], stdin: &str) -> String {
        self.commands().run(args, stdin).unwrap_or_else(|| panic!("{args:?} failed"))
    }

    /// The command line on this server's data, for other threads.
    pub fn commands(&self) -> Commands {
        Commands { data: self.dir.path().join("data") }
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The memory that it holds now, in MiB.
    pub fn rss_mib(&self) -> f64 {
        self.memory_mib("VmRSS:")
    }

    fn memory_mib(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.expect("the system says what a process holds") / 1024.0
    }

    /// Everything that it logged, at its most talkative.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Kills the server as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Starts a killed server again on the same data.
    pub fn restart(&mut self) {
        (self.child, self.base) = spawn(self.dir.path());
    }

    /// Starts an ended server again under a wall clock that [`TestServer::set_clock`] sets; other clocks run as ever.
    pub fn restart_with_clock(&mut self) {
        self.set_clock("+0");
        let libraries = std::fs::read_dir("/usr/lib").expect("libraries").filter_map(Result::ok);
        let library = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
        let library = library.expect("libfaketime, of Debian's package `faketime`");
        let mut command = serve(self.dir.path(), "debug");
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", self.dir.path().join("clock"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        (self.child, self.base) = listening(command);
    }

    /// Puts the wall clock of a server forward or back, such as `+1d` or `-3600`.
    pub fn set_clock(&self, offset: &str) {
        // In one step: a file that is half written is no time.
        let path = self.dir.path().join("clock");
        std::fs::write(path.with_extension("new"), offset).expect("a file");
        std::fs::rename(path.with_extension("new"), path).expect("it is renamed");
    }

    /// Kills the server as a crash does, and starts it again on the same data.
    pub fn crash_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Signs a path with the project's first key.
    pub fn signed(&self, path: &str, key: &str, secret: &str) -> String {
        let expire = std::process::Command::new("date").arg("+%s").output().expect("date runs").stdout;
        let now: i64 = String::from_utf8_lossy(&expire).trim().parse().expect("date prints seconds");
        wire::signature::sign_url(&format!("{}{path}", self.base), key, secret, now + 600)
    }
}

/// The command line on a server's data.
pub struct Commands {
    data: PathBuf,
}

impl Commands {
    /// The command line on a data directory.
    pub fn new(data: PathBuf) -> Self {
        Self { data }
    }

    /// What a command printed; `None` where it failed.
    pub fn run(&self, args: &[&str], stdin: &str) -> Option<String> {
        let mut command = Command::new(binary());
        command.args(args).args(["--json", "--data"]).arg(&self.data);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        // A command that needs no input may have ended already.
        let _ = child.stdin.take().expect("it was piped").write_all(stdin.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        if !output.status.success() {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success().then(|| String::from_utf8(output.stdout).expect("it prints UTF-8"))
    }

    /// As [`Commands::run`], on the running server only: a command is not run in place where the server is gone.
    pub fn try_run(&self, args: &[&str]) -> Option<String> {
        std::os::unix::net::UnixStream::connect(self.data.join("sluice.sock")).ok()?;
        self.run(args, "")
    }
}

/// A Basic header.
pub fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Whatever a test asks, no thread of the server panics.
        assert!(std::thread::panicking() || !self.log().contains("panicked at"), "{}", self.log());
    }
}

fn spawn(dir: &std::path::Path) -> (Child, String) {
    spawn_logging(dir, "debug")
}

fn spawn_logging(dir: &std::path::Path, level: &str) -> (Child, String) {
    listening(serve(dir, level))
}

fn serve(dir: &std::path::Path, level: &str) -> Command {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("a log file");
    let mut command = Command::new(binary());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.join("data")).arg("--config").arg(dir.join("sluice.toml"));
    command.env("SLUICE_LOG", level).stdout(Stdio::piped()).stderr(log);
    command
}

fn listening(mut command: Command) -> (Child, String) {
    let mut child = command.spawn().expect("the binary starts; build it with `cargo build -p server`");
    let mut lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
    let base =
        lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix("listening on ").map(str::to_owned)).expect("it listens");
    std::thread::spawn(move || lines.for_each(drop));
    (child, base)
}

/// GET: status and body.
pub fn get(url: &str, authorization: Option<&str>) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.get(url);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let mut response = request.call().expect("the server answers");
    (response.status().as_u16(), response.body_mut().with_config().limit(u64::MAX).read_to_string().expect("a body"))
}

/// POST: status and body.
pub fn post(url: &str, body: &str, authorization: Option<&str>) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.post(url);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let mut response = request.send(body).expect("the server answers");
    (response.status().as_u16(), response.body_mut().with_config().limit(u64::MAX).read_to_string().expect("a body"))
}

/// A browser that signed in or will: it keeps its cookies and sends JSON, as the web page does.
pub struct Browser {
    agent: ureq::Agent,
    base: String,
    cookies: std::collections::BTreeMap<String, String>,
}

impl Browser {
    /// A browser without cookies.
    pub fn new(server: &TestServer) -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).allow_non_standard_methods(true).build().into();
        Self { agent, base: format!("{}/api/v1", server.base), cookies: std::collections::BTreeMap::new() }
    }

    /// A browser in which an account signed in.
    pub fn signed_in(server: &TestServer, email: &str, password: &str) -> Self {
        let mut browser = Self::new(server);
        let body = serde_json::json!({ "email": email, "password": password });
        let (status, answer) = browser.call("POST", "/session", Some(&body));
        assert_eq!(status, 200, "{answer}");
        browser
    }

    /// Calls an operation of the management API: status and answer.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&serde_json::Value>) -> (u16, serde_json::Value) {
        self.call_with(method, path, body, &[])
    }

    /// As [`Browser::call`], with headers of its own.
    pub fn call_with(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
        headers: &[(&str, &str)],
    ) -> (u16, serde_json::Value) {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        let text = body.map(ToString::to_string).unwrap_or_default();
        let mut response = self.agent.run(request.body(text).expect("a request")).expect("the server answers");
        for cookie in response.headers().get_all("set-cookie") {
            let (name, rest) = cookie.to_str().expect("text").split_once('=').expect("a cookie");
            let value = rest.split(';').next().unwrap_or_default();
            assert!(rest.contains("HttpOnly") && rest.contains("SameSite=Strict"), "{rest}");
            if value.is_empty() {
                self.cookies.remove(name)
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned())
            };
        }
        assert_eq!(response.headers().get("cache-control").map(|value| value.as_bytes()), Some(&b"no-store"[..]), "{path}");
        let status = response.status().as_u16();
        let is_stream = response.headers().get("content-type").is_some_and(|kind| kind.as_bytes() == b"text/event-stream");
        if is_stream {
            // It has no end: see [`Browser::stream`].
            return (status, serde_json::Value::Null);
        }
        let text = response.body_mut().read_to_string().expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)))
    }

    /// Opens a stream of events below the management API.
    pub fn stream(&self, path: &str) -> EventStream {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_recv_body(Some(std::time::Duration::from_secs(60)));
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let agent: ureq::Agent = config.build().into();
        let response = agent.get(format!("{}{path}", self.base)).header("cookie", cookies.join("; ")).call().expect("the server answers");
        assert_eq!(response.status().as_u16(), 200, "{path}");
        EventStream { lines: BufReader::new(response.into_body().into_reader()) }
    }

    /// The cookies that it holds.
    pub fn cookies(&self) -> &std::collections::BTreeMap<String, String> {
        &self.cookies
    }

    /// Takes cookies from elsewhere.
    pub fn with_cookies(mut self, cookies: &std::collections::BTreeMap<String, String>) -> Self {
        self.cookies = cookies.clone();
        self
    }
}

/// Server-sent events as they come.
pub struct EventStream {
    lines: BufReader<ureq::BodyReader<'static>>,
}

impl Iterator for EventStream {
    type Item = (String, serde_json::Value);

    /// The next event: its name and its data; `None` once the stream ended.
    fn next(&mut self) -> Option<Self::Item> {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            if let Some(word) = line.strip_prefix("event: ") {
                name = word.trim_end().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).expect("data is JSON")));
            }
        }
    }
}

/// The mails that a server wrote as files so far, oldest first.
pub fn mails(server: &TestServer) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(server.data().join("mail")).into_iter().flatten().flatten().map(|file| file.path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect()
}

/// Waits until a mail holds each of some words; its text, unfolded.
pub fn mail_with(server: &TestServer, words: &[&str]) -> String {
    for _ in 0..100 {
        let unfolded = mails(server).into_iter().map(|mail| mail.replace("=\r\n", "").replace("=3D", "="));
        if let Some(found) = unfolded.into_iter().rev().find(|mail| words.iter().all(|word| mail.contains(word))) {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("no mail holds {words:?}: {:#?}", mails(server));
}

/// A client that takes every status for an answer, and gives up after a while.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(std::time::Duration::from_secs(60)));
    config.build().into()
}

/// A text in an object that a command printed.
pub fn field(value: &serde_json::Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

/// Gives a running server a command on its socket, without a process for it: what it answered, or why not.
pub fn tell(data: &std::path::Path, command: &serde_json::Value) -> Result<serde_json::Value, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = std::os::unix::net::UnixStream::connect(data.join("sluice.sock")).map_err(failed)?;
    writeln!(stream, "{command}").map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(failed)?;
    let mut answer: serde_json::Value = serde_json::from_str(&line).map_err(|_| "no answer".to_owned())?;
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["ok"].take()),
    }
}

/// A number from the environment, for tests that can do more of the same.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a server of a small disk stands on; it goes away with it.
#[derive(Debug)]
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl TestServer {
    /// As [`TestServer::start_with`], with its data on a disk of so many MiB; `None` where the machine lets nobody mount one.
    pub fn start_on_small_disk(mib: u32, settings: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("sluice.toml"), settings).expect("a settings file");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("a directory");
        let mount = ["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"];
        if !Command::new("mount").args(mount).arg(&data).status().is_ok_and(|status| status.success()) {
            return None;
        }
        let disk = Some(SmallDisk(data));
        let (child, base) = spawn(dir.path());
        let server = Self { child, base, _disk: disk, dir };
        server.fill();
        Some(server)
    }

    /// The most memory that it ever held, in MiB.
    pub fn peak_mib(&self) -> f64 {
        self.memory_mib("VmHWM:")
    }

    /// Kills the server and starts it again on the same data; from now on it logs everything that it can.
    pub fn log_everything(&mut self) {
        self.kill();
        (self.child, self.base) = spawn_logging(self.dir.path(), "trace");
    }

    /// Asks the server to end, and waits: what was received is sealed.
    pub fn stop(&mut self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        self.child.wait().expect("it ends");
    }
}

/// Every report, with parameters that it answers.
pub const REPORTS: [&str; 12] = [
    "/export?from_date=2020-01-01&to_date=2020-01-02",
    "/events?event=%5B%22E%22%5D&type=general&unit=day&interval=7",
    "/events/names?type=general",
    "/events/top?type=general",
    "/events/properties?event=E&name=a&type=general&unit=day&interval=7",
    "/events/properties/top?event=E",
    "/events/properties/values?event=E&name=a",
    "/segmentation?event=E&from_date=2020-01-01&to_date=2020-01-02",
    "/segmentation/numeric?event=E&from_date=2020-01-01&to_date=2020-01-02&on=properties%5B%22a%22%5D",
    "/segmentation/sum?event=E&from_date=2020-01-01&to_date=2020-01-02&on=properties%5B%22a%22%5D",
    "/segmentation/average?event=E&from_date=2020-01-01&to_date=2020-01-02&on=properties%5B%22a%22%5D",
    "/engage?page_size=100",
];

/// Every file below a folder.
pub fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let below = |path: PathBuf| if path.is_dir() { walk(&path) } else { vec![path] };
    entries.flat_map(below).filter(|path| path.is_file()).collect()
}
