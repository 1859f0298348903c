//! A read-only registry made of fixed answers, for images that a real registry would not serve: the wrong digest, a body
//! that ends early, layers with hostile names.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::json;
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One image, served as `HOST/hostile:1`.
#[derive(Default)]
pub(crate) struct ScriptedImage {
    /// The bytes of its layers (plain tar), in order.
    pub(crate) layers: Vec<Vec<u8>>,
    /// Sends only this many bytes of every layer, though it announces all.
    pub(crate) cut_layers_at: Option<usize>,
    /// Changes the manifest after its digest was taken; it is asked for by that digest.
    pub(crate) change_manifest: bool,
}

struct Answer {
    media_type: &'static str,
    body: Vec<u8>,
    sent: usize,
}

impl ScriptedImage {
    /// Serves it for the rest of the process; returns the reference to pull.
    pub(crate) fn serve(self) -> String {
        let mut answers = BTreeMap::new();
        let mut descriptors = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in self.layers {
            let digest = digest_of(&layer);
            descriptors.push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.len(),
            }));
            diff_ids.push(digest.clone());
            let sent = self.cut_layers_at.unwrap_or(layer.len());
            answers.insert(
                format!("/v2/hostile/blobs/{digest}"),
                Answer { media_type: "application/octet-stream", body: layer, sent },
            );
        }
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes();
        let config_digest = digest_of(&config);
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len(),
            },
        })
        .to_string()
        .into_bytes();
        let sent = config.len();
        answers.insert(
            format!("/v2/hostile/blobs/{config_digest}"),
            Answer { media_type: "application/octet-stream", body: config, sent },
        );
        let digest = digest_of(&manifest);
        if self.change_manifest {
            manifest.push(b' ');
        }
        let sent = manifest.len();
        for name in ["1", &digest] {
            let answer = Answer { media_type: MANIFEST, body: manifest.clone(), sent };
            answers.insert(format!("/v2/hostile/manifests/{name}"), answer);
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &answers);
            }
        });
        if self.change_manifest { format!("{host}/hostile@{digest}") } else { format!("{host}/hostile:1") }
    }
}

/// Not the program's own digest type: these answers must be right whatever that one does.
fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Answers one request and closes the connection.
fn answer(mut stream: TcpStream, answers: &BTreeMap<String, Answer>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    // the headers
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let written = match answers.get(path) {
        Some(answer) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
                answer.media_type,
                answer.body.len()
            );
            let body = if method == "HEAD" { &[] } else { &answer.body[..answer.sent] };
            stream.write_all(&[head.as_bytes(), body].concat())
        }
        None => {
            let status = if path == "/v2/" { "200 OK" } else { "404 Not Found" };
            stream.write_all(
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes(),
            )
        }
    };
    // the client may have gone: that is its right
    drop(written);
}
