//! A first run belongs to whoever reads the console: the first account needs the code that stands there, and of a hundred who come with it
//! at once exactly one gets the account.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Barrier;

use e2e::{agent, binary};

/// What the test started, ended with it.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn of_a_hundred_first_accounts_exactly_one_is_made_and_it_needs_the_code() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path().join("data"));
    let mut server = Server(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let (mut base, mut code) = (String::new(), String::new());
    for line in BufReader::new(server.0.stdout.take().unwrap()).lines().map_while(Result::ok) {
        base = line.strip_prefix("listening on ").map_or(base, str::to_owned);
        if let Some(rest) = line.strip_prefix("setup code: ") {
            code = rest.split_whitespace().next().unwrap().to_owned();
            break;
        }
    }
    let ask = |code: &str, email: &str| {
        let body = format!(r#"{{"code":"{code}","email":"{email}","password":"correct horse"}}"#);
        let mut response = agent().post(format!("{base}/api/v1/setup")).content_type("application/json").send(&body).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    };
    for wrong in
        ["", "WRONG-CODE", &code[1..], &format!("{code}A"), &code.replacen(&code[..1], if code.starts_with('A') { "B" } else { "A" }, 1)]
    {
        let (status, body) = ask(wrong, "thief@example.com");
        assert!((400..500).contains(&status), "`{wrong}`: {body}");
    }
    let gate = Barrier::new(100);
    let outcomes: Vec<(u16, String)> = std::thread::scope(|scope| {
        let come = |number| {
            let (gate, ask, code) = (&gate, &ask, &code);
            scope.spawn(move || {
                gate.wait();
                // Some come without the code.
                ask(if number % 10 == 0 { "WRONG-CODE" } else { code }, &format!("p{number}@example.com"))
            })
        };
        let threads: Vec<_> = (0..100).map(come).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won: Vec<usize> = (0..100).filter(|number| outcomes[*number].0 == 200).collect();
    assert_eq!(won.len(), 1, "{won:?} won");
    assert_ne!(won[0] % 10, 0, "without the code nobody wins");
    // Whoever waits for a place behind too many others is asked to come back.
    let fits = |number: usize, status: u16| (status == 200) == (number == won[0]) && (status < 500 || status == 503);
    assert!(outcomes.iter().enumerate().all(|(number, (status, _))| fits(number, *status)));
    // It is over for the code, and the page says so.
    assert_eq!(ask(&code, "late@example.com").0, 404);
    let instance = agent().get(format!("{base}/api/v1/instance")).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(instance.contains(r#""needs_setup":false"#), "{instance}");
}
