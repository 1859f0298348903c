//! A service of a cloud, in the test itself: fixed answers in their order, and what was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(super) struct StandIn {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    /// Answers one request after the other; those beyond the last answer get a 500.
    pub(super) fn start(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let answers: Vec<(u16, String)> = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let (status, body) = answers.get(number).cloned().unwrap_or((500, String::new()));
                log.lock().unwrap().push(converse(stream, status, &body));
            }
        });
        Self { address, seen }
    }

    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Each request as it came: its line, its headers, its body.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn converse(mut stream: TcpStream, status: u16, body: &str) -> String {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut text = String::new();
    while reader.read_line(&mut text).unwrap() > 2 {}
    let lower = text.to_lowercase();
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    let mut content = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut content).unwrap();
    text.push_str(&String::from_utf8(content).unwrap());
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    text
}
