//! The answer to a credential change goes out after the change is on disk: the system calls of the real binary say so.

use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Commands, binary};

#[test]
fn a_reset_is_answered_after_its_fdatasync() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (data, trace) = (dir.path().join("data"), dir.path().join("trace"));
    let commands = Commands::new(data.clone());
    commands.run(&["account", "create", "--email", "o@example.com", "--password-stdin"], "correct horse").expect("an account");
    commands.run(&["project", "create", "--owner", "o@example.com", "--name", "P"], "").expect("a project");
    let mut server = Command::new("strace")
        .args(["-f", "-yy", "-s", "64", "-e", "trace=pwrite64,fdatasync,fsync,write,sendto,writev", "-o"])
        .arg(&trace)
        .arg(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace starts; `make test` installs it");
    let answer = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        commands.try_run(&["credentials", "reset", "--project", "1", "--as", "o@example.com"])
    });
    let calls = std::fs::read_to_string(&trace).unwrap_or_default();
    // strace keeps signals to itself: the server is told by its own number, which it wrote into its lock.
    let number = std::fs::read_to_string(data.join("lock")).expect("the server holds a lock");
    Command::new("kill").arg(number.trim()).status().expect("kill runs");
    let _ = server.wait();
    assert!(answer.is_some_and(|answer| answer.contains("api_secret")), "the reset was answered");

    let calls: Vec<&str> = calls.lines().collect();
    let answered = calls.iter().position(|call| call.contains("sluice.sock") && call.contains("{\\\"ok\\\"")).expect("the answer was seen");
    let written = calls[..answered]
        .iter()
        .rposition(|call| call.contains("pwrite64") && call.contains("metastore.sqlite-wal"))
        .expect("the change was written");
    let synced = calls[written..answered].iter().any(|call| {
        // A call that another thread interrupted ends on a line of its own.
        (call.contains("fdatasync(") || call.contains("fsync(")) && call.contains("metastore.sqlite-wal")
    });
    assert!(synced, "the answer went out before the sync:\n{}", calls[written..=answered].join("\n"));
}
