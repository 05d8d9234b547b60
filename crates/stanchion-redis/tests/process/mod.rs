//! A process of its own: the test binary once more, told by its environment which of its tests to be.
//!
//! It is told what to do on its standard input, a line each, and answers in lines that begin with a
//! word that is expected of it; the test harness writes others.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use stanchion_conformance::RedisServer;

/// For whatever must happen, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    /// Runs the test `an_instance` with `variable` set to where the server is, until it says `ready`.
    pub(crate) fn start(variable: &str, server: &RedisServer, words: &'static [&'static str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_instance", "--nocapture", "--test-threads", "1"])
            .env(variable, server.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let is_known = line == "ready" || words.iter().any(|word| line.starts_with(word));
                if is_known && sender.send(line).is_err() {
                    return;
                }
            }
        });
        let started = Self { child, orders, lines };
        assert_eq!(started.line(), "ready");
        started
    }

    pub(crate) fn say(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// The next line.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a process says what it does")
    }

    /// The next line that begins so.
    #[allow(dead_code, reason = "not every test that has processes needs it")]
    pub(crate) fn next(&self, wanted: &str) -> String {
        let began = Instant::now();
        loop {
            let line = self.lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())).unwrap();
            if line.starts_with(wanted) {
                return line;
            }
        }
    }

    /// All it has said and nobody has read.
    #[allow(dead_code, reason = "not every test that has processes needs it")]
    pub(crate) fn unread(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    #[allow(dead_code, reason = "not every test that has processes needs it")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `-KILL`.
    #[allow(dead_code, reason = "not every test that has processes needs it")]
    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
