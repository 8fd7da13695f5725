//! The wrapping key is replaced while the process is killed: before every single write of a rotation, before every single write of the
//! start that mends it, and at random moments of a running server. After each restart every credential signs. In the end the key file
//! holds one key, and no older key opens anything.
//!
//! `KEK_CYCLES=100` and `KEK_PROJECTS=500` for more.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use e2e::{TestServer, agent, binary, field, setting, tell, walk};
use serde_json::{Value, json};

const NAMES: &str = "/api/2.0/events/names?type=general";
const OWNER: &str = "o@example.com";

/// What changes files.
const WRITES: &str = "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate";

/// Projects with two signing keys each, beyond the one that the server starts with.
fn credentials(server: &TestServer, projects: usize) -> Vec<(String, String)> {
    let mut pairs = vec![("test_key".to_owned(), "test_secret".to_owned())];
    let mut keep = |answer: &Value| pairs.push((field(answer, "api_key"), field(answer, "api_secret")));
    for number in 0..projects {
        let asked = json!({"owner": OWNER, "name": format!("P{number}"), "timezone": "UTC", "project_id": null, "organization_id": null,
            "token": null, "api_key": null, "api_secret": null, "signature_lifetime": null, "allow_weak": false});
        let made = tell(&server.data(), &json!({"project": {"create": asked}})).unwrap();
        keep(&made);
        let on = json!({"project": made["project_id"], "account": OWNER});
        let key = json!({"on": on, "name": "k", "rights": ["query"], "expires_at": null, "networks": "", "legacy": "on", "signature_lifetime": "24"});
        keep(&tell(&server.data(), &json!({"key": {"create": key}})).unwrap());
    }
    pairs
}

/// How many of the credentials sign.
fn signing(server: &TestServer, pairs: &[(String, String)]) -> usize {
    let (agent, expire) = (agent(), jiff::Timestamp::now().as_second() + 600);
    let signs = |(key, secret): &&(String, String)| {
        let url = wire::signature::sign_url(&format!("{}{NAMES}", server.base), key, secret, expire);
        let mut response = agent.get(url).call().unwrap();
        let _ = response.body_mut().read_to_string();
        response.status().as_u16() == 200
    };
    pairs.iter().filter(signs).count()
}

fn key_file(server: &TestServer) -> PathBuf {
    server.data().with_extension("key")
}

/// The keys in a key file.
fn keys(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn put(file: &Path, text: &str) {
    let _ = fs::remove_file(file);
    fs::write(file, text).unwrap();
}

/// Every credential signs under the one key of the key file, and none under any that was there before.
fn old_keys_open_nothing(server: &mut TestServer, pairs: &[(String, String)], seen: &BTreeSet<String>) {
    let file = key_file(server);
    assert_eq!(signing(server, pairs), pairs.len());
    let newest = keys(&file);
    assert_eq!(newest.len(), 1, "the key file holds one key");
    let whole = fs::read_to_string(&file).unwrap();
    let old: Vec<&String> = seen.iter().filter(|key| **key != newest[0]).collect();
    assert!(!old.is_empty());
    for key in old.iter().step_by(old.len().div_ceil(16)) {
        server.kill();
        put(&file, &format!("{key}\n"));
        server.restart();
        assert_eq!(signing(server, pairs), 0, "an old key still opens a credential");
    }
    server.kill();
    put(&file, &whole);
    server.restart();
    assert_eq!(signing(server, pairs), pairs.len());
}

/// Runs a command on a data directory that no server holds and kills it before its n-th write. `None`: it had fewer.
fn killed_before(data: &Path, write: usize, args: &[&str]) -> Option<()> {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={WRITES}"), "-e", &format!("inject={WRITES}:signal=KILL:when={write}")]);
    command.arg(binary()).args(args).args(["--json", "--data"]).arg(data).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().expect("strace starts; `make test` installs it");
    (!status.success()).then_some(())
}

fn copy(from: &Path, to: &Path) {
    for entry in walk(from) {
        let target = to.join(entry.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&target);
        fs::copy(&entry, &target).unwrap();
    }
}

#[test]
fn a_rotation_survives_a_kill_before_every_write() {
    let mut server = TestServer::start();
    let pairs = credentials(&server, 2);
    let (file, data) = (key_file(&server), server.data());
    let mut seen: BTreeSet<String> = keys(&file).into_iter().collect();
    let (mut kills, mut half_done, mut mended) = (0, 0, None);
    for write in 1..500 {
        server.kill();
        let was_killed = killed_before(&data, write, &["kek", "rotate"]);
        seen.extend(keys(&file));
        if keys(&file).len() == 2 {
            half_done += 1;
            mended.get_or_insert_with(|| {
                let aside = tempfile::tempdir().unwrap();
                copy(data.parent().unwrap(), aside.path());
                aside
            });
        }
        server.restart();
        assert_eq!(signing(&server, &pairs), pairs.len(), "killed before write {write}");
        assert_eq!(keys(&file).len(), 1, "a start finishes what was begun");
        seen.extend(keys(&file));
        if was_killed.is_none() {
            break;
        }
        kills = write;
    }
    assert!(kills > 10 && half_done > 2, "{kills} kills, {half_done} of them between the two keys");
    // The mending itself is killed, before every write of it.
    let mended = mended.unwrap();
    let mut mending_kills = 0;
    for write in 1..500 {
        server.kill();
        copy(mended.path(), data.parent().unwrap());
        let _ = fs::remove_file(data.join("metastore.sqlite-shm"));
        let was_killed = killed_before(&data, write, &["audit", "verify"]);
        server.restart();
        assert_eq!(signing(&server, &pairs), pairs.len(), "the mending killed before write {write}");
        assert_eq!(keys(&file).len(), 1);
        seen.extend(keys(&file));
        if was_killed.is_none() {
            break;
        }
        mending_kills = write;
    }
    assert!(mending_kills > 5, "{mending_kills}");
    println!("killed before each of {kills} writes of a rotation and of {mending_kills} writes of its mending: every credential signs");
    old_keys_open_nothing(&mut server, &pairs, &seen);
    assert!(server.commands().run(&["audit", "verify"], "").is_some());
}

#[test]
fn rotations_of_a_running_server_survive_kills_at_random() {
    let (cycles, projects) = (setting("KEK_CYCLES", 12), setting("KEK_PROJECTS", 12));
    let mut server = TestServer::start();
    let pairs = credentials(&server, projects);
    let file = key_file(&server);
    let mut seen: BTreeSet<String> = keys(&file).into_iter().collect();
    let mut random = jiff::Timestamp::now().subsec_nanosecond() as u64 | 1;
    println!("seed {random}");
    let (mut rotations, mut half_done) = (0, 0);
    for cycle in 0..cycles {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (over, done, data) = (AtomicBool::new(false), AtomicUsize::new(0), server.data());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) && tell(&data, &json!({"kek": "rotate"})).is_ok() {
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
            std::thread::sleep(Duration::from_micros(5_000 + (random >> 33) % 60_000));
            server.kill();
            over.store(true, Ordering::SeqCst);
        });
        half_done += usize::from(keys(&file).len() > 1);
        seen.extend(keys(&file));
        server.restart();
        assert_eq!(signing(&server, &pairs), pairs.len(), "cycle {cycle}");
        assert_eq!(keys(&file).len(), 1, "a start finishes what was begun");
        seen.extend(keys(&file));
        rotations += done.into_inner();
    }
    println!(
        "{cycles} kills in {rotations} rotations, {half_done} of them between the two keys: all of {} credentials sign after each",
        pairs.len()
    );
    old_keys_open_nothing(&mut server, &pairs, &seen);
    assert!(server.commands().run(&["audit", "verify"], "").is_some());
}
