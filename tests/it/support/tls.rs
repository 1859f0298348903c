//! Servers that speak TLS with certificates of their own.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::support::program::run;

/// TLS with a certificate of its own for 127.0.0.1, and these protocols (ALPN names), the preferred first.
pub(crate) fn acceptor(directory: &Path, protocols: &[&str]) -> TlsAcceptor {
    let line = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=self -addext subjectAltName=IP:127.0.0.1 -keyout key -out pem";
    openssl(directory, line);
    with_files(directory, protocols)
}

/// The same with a certificate by an authority of its own, which is `ca.pem` in `directory`.
pub(crate) fn acceptor_with_authority(directory: &Path, protocols: &[&str]) -> TlsAcceptor {
    write_signed(directory);
    with_files(directory, protocols)
}

/// Writes an authority, `ca.pem`, and a certificate by it for 127.0.0.1, `pem` with its `key`.
pub(crate) fn write_signed(directory: &Path) {
    openssl(directory, "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("a file of names");
    openssl(directory, "req -newkey rsa:2048 -nodes -subj /CN=server -keyout key -out request");
    openssl(
        directory,
        "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out pem",
    );
}

fn openssl(directory: &Path, line: &str) {
    run(Command::new("openssl").args(line.split(' ')).current_dir(directory)).success();
}

fn with_files(directory: &Path, protocols: &[&str]) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_file(directory.join("pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(directory.join("key")).expect("its key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .expect("a server");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Speaks TLS for a server that does not, for the rest of the process; gives the address.
pub(crate) fn before(server: SocketAddr, acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback interface");
    let address = listener.local_addr().expect("the port that was bound");
    listener.set_nonblocking(true).expect("a socket for the runtime");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((connection, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut outer) = acceptor.accept(connection).await else { return };
                    let mut inner = TcpStream::connect(server).await.expect("the server");
                    // Connections that end badly are the tests' to look at.
                    drop(tokio::io::copy_bidirectional(&mut outer, &mut inner).await);
                });
            }
        });
    });
    address
}
