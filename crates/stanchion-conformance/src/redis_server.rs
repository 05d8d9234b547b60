//! A real `redis-server` of the test's own.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A `redis-server` on a free port of this machine, with a temporary folder and
/// without persistence. It ends with this value.
///
/// The binary is that of `STANCHION_REDIS_SERVER`, or else `redis-server` from
/// the path. A missing one fails the test: it is never skipped.
pub struct RedisServer {
    port: u16,
    folder: PathBuf,
    /// Of its options those that are not every server's.
    options: Vec<String>,
    child: Option<Child>,
    frozen: AtomicBool,
}

/// How long a server may take to start.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// If there is none to start, or it doesn't start.
    pub fn start() -> Self {
        Self::start_with(Vec::new)
    }

    /// Starts a server with more options, which are made anew for each try.
    pub(crate) fn start_with(options: impl Fn() -> Vec<String>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("stanchion-redis-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder can be made");
        // Between finding a free port and taking it another may be faster.
        for _ in 0..10 {
            let mut server = Self {
                port: free_port(),
                folder: folder.clone(),
                options: options(),
                child: None,
                frozen: false.into(),
            };
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server does not start: see {}", folder.display());
    }

    /// The server that tests of one process share while any of them holds it.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a killed child ends");
            self.frozen.store(false, Ordering::SeqCst);
        }
    }

    /// Whether it runs: it has been neither killed nor frozen.
    pub fn is_running(&self) -> bool {
        self.child.is_some() && !self.frozen.load(Ordering::SeqCst)
    }

    /// Starts it again on the same port, empty.
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn restart(&mut self) {
        self.kill();
        let began = Instant::now();
        while !self.launch() {
            assert!(began.elapsed() < PATIENCE, "redis-server does not start again on port {}", self.port);
        }
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open, nothing is answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal("-CONT");
        self.frozen.store(false, Ordering::SeqCst);
    }

    /// Lets all clients wait for a minute (`CLIENT PAUSE`): connections stay
    /// open, nothing is answered.
    ///
    /// # Panics
    /// If the server doesn't answer to that.
    pub fn pause(&self) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the server listens");
        stream.write_all(b"CLIENT PAUSE 60000 ALL\r\n").expect("the server reads");
        let mut reply = [0; 5];
        stream.read_exact(&mut reply).expect("the server answers");
        assert_eq!(&reply, b"+OK\r\n");
    }

    /// Sends one command over a connection of its own, and returns the raw reply.
    ///
    /// # Panics
    /// If the server doesn't answer.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).expect("the server answers")
    }

    pub(crate) fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        // Closes the connection after the reply, so that its end is known.
        request += "*1\r\n$4\r\nQUIT\r\n";
        stream.write_all(request.as_bytes())?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        Ok(reply.strip_suffix("+OK\r\n").unwrap_or(&reply).to_owned())
    }

    /// How often a command was called since the server began or its statistics
    /// were reset, by `INFO commandstats`.
    ///
    /// # Panics
    /// If the server doesn't answer.
    pub fn calls(&self, command: &str) -> u64 {
        let stats = self.command(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().expect("digits are a number")
        })
    }

    fn launch(&mut self) -> bool {
        let binary = std::env::var_os("STANCHION_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let log = fs::File::create(self.folder.join("log")).expect("the folder can be written to");
        let spawned = Command::new(&binary)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(&self.folder)
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => panic!(
                "{} can't be started: {error}. `cargo xtask test` installs Redis; by hand: apt-get install redis-server",
                binary.display()
            ),
        };
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if child.try_wait().expect("a child can be asked").is_some() {
                return false;
            }
            if self.try_command(&["PING"]).is_ok_and(|reply| reply.starts_with("+PONG")) {
                self.child = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().ok();
        child.wait().ok();
        false
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the server runs");
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(status.expect("`kill` can be run").success(), "kill {signal}");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.folder).ok();
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer").field("port", &self.port).finish_non_exhaustive()
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
