//! Small web servers in this process: each says its name and version, answers as slowly as it is
//! asked to, and can die and come back, all requests in it included.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One application server on a port of its own.
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) port: u16,
    version: Arc<Mutex<String>>,
    served: Arc<AtomicU64>,
    /// Whether requests that are held are answered.
    released: watch::Sender<bool>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl App {
    /// Starts one.
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Self {
            name: name.to_owned(),
            port: listener.local_addr().unwrap().port(),
            version: Arc::new(Mutex::new("old".to_owned())),
            served: Arc::default(),
            released: watch::Sender::new(false),
            listening: Mutex::default(),
        };
        app.listen(listener);
        app
    }

    /// Several, named `s1`, `s2` and so on.
    pub(crate) async fn several(count: usize) -> Vec<Self> {
        let mut apps = Vec::new();
        for at in 1..=count {
            apps.push(Self::start(&format!("s{at}")).await);
        }
        apps
    }

    /// How many requests it was given, ever.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// Answers the requests that were held, and all such from now on.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Ends it at once, with all that it does.
    pub(crate) async fn die(&self) {
        let listening = self.listening.lock().unwrap().take();
        if let Some(task) = listening {
            task.abort();
            // It was aborted.
            let _ = task.await;
        }
    }

    /// Comes back with this version.
    pub(crate) async fn rise(&self, version: &str) {
        version.clone_into(&mut self.version.lock().unwrap());
        // Connections that are just being closed may hold the port for an instant.
        for _ in 0..200 {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", self.port)).await {
                return self.listen(listener);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("port {} is not free again", self.port);
    }

    fn listen(&self, listener: TcpListener) {
        let (name, version) = (self.name.clone(), Arc::clone(&self.version));
        let served = Arc::clone(&self.served);
        let released = self.released.subscribe();
        let task = tokio::spawn(async move {
            // Dropped with this task: its connections end with it.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let said = format!("{name} {}", version.lock().unwrap());
                        let (served, released) = (Arc::clone(&served), released.clone());
                        connections.spawn(serve(stream, said, served, released));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        *self.listening.lock().unwrap() = Some(task);
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(task) = self.listening.lock().unwrap().take() {
            task.abort();
        }
    }
}

/// Answers requests on one connection: `GET /?MILLISECONDS` is answered after so long, `GET /?held`
/// when it is released.
async fn serve(
    mut stream: TcpStream,
    said: String,
    served: Arc<AtomicU64>,
    mut released: watch::Receiver<bool>,
) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let query = head.split([' ', '?']).nth(2).unwrap_or_default();
        if !head.starts_with("OPTIONS") {
            served.fetch_add(1, Ordering::SeqCst);
        }
        if query == "held" {
            // An error is the end of the test.
            let _ = released.wait_for(|it| *it).await;
        } else {
            tokio::time::sleep(Duration::from_millis(query.parse().unwrap_or(0))).await;
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
