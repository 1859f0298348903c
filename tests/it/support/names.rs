//! A network of a test's own, with any address of the world on its loopback interface and a server of names that says what the test
//! wants. The test runs on a thread in namespaces of its own; what it starts, and the program under test, live there too.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::UnshareFlags;

use crate::support::program::run;

/// What the server of names answers: the addresses of a name (in small letters, without the last dot) that has been asked for so often
/// before.
type Zone = dyn Fn(&str, usize) -> Vec<IpAddr> + Send + Sync;

/// Runs `test` in a network that has these `addresses`, those of loopback included, and `zone` for its names.
#[track_caller]
pub(crate) fn in_network(
    addresses: &'static [&'static str],
    zone: impl Fn(&str, usize) -> Vec<IpAddr> + Send + Sync + 'static,
    test: impl FnOnce() + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        let directory = tempfile::tempdir().expect("a directory");
        enter(directory.path(), addresses);
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the port of names");
        std::thread::spawn(move || serve(&socket, &zone));
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Moves this thread into a network and a file system of its own.
fn enter(directory: &Path, addresses: &[&str]) {
    // SAFETY: file descriptors stay shared; only the network and the mounts of this thread become its own.
    #[allow(unsafe_code)]
    let moved = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) };
    moved.expect("namespaces: the tests run as root");
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("mounts of our own");
    let hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
    for (name, content) in [("resolv.conf", "nameserver 127.0.0.1\noptions attempts:1\n"), ("hosts", hosts)] {
        let file = directory.join(name);
        std::fs::write(&file, content).expect("a file");
        mount_bind(&file, format!("/etc/{name}")).expect("a file of our own");
    }
    let ip = |line: &str| run(Command::new("ip").args(line.split(' '))).success();
    ip("link set lo up");
    for address in addresses {
        let family = if address.contains(':') { "/128 dev lo nodad" } else { "/32 dev lo" };
        ip(&format!("address add {address}{family}"));
    }
}

fn serve(socket: &UdpSocket, zone: &Zone) {
    let asked: Mutex<std::collections::BTreeMap<(String, u16), usize>> = Mutex::default();
    let mut packet = [0; 1500];
    while let Ok((length, peer)) = socket.recv_from(&mut packet) {
        let Some((name, kind, end)) = question(&packet[..length]) else { continue };
        let before = {
            let mut asked = asked.lock().expect("a counter");
            let count = asked.entry((name.clone(), kind)).or_default();
            *count += 1;
            *count - 1
        };
        let answer = answer(&packet[..end], &zone(&name, before), kind);
        drop(socket.send_to(&answer, peer));
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;

/// The name and the type that a query is about, and where the question ends (RFC 1035, section 4.1).
fn question(packet: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 4))
}

/// An answer that is good for no time at all; a name without addresses does not exist.
fn answer(query: &[u8], addresses: &[IpAddr], kind: u16) -> Vec<u8> {
    let data: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) if kind == A => Some(address.octets().to_vec()),
            IpAddr::V6(address) if kind == AAAA => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut packet = query.to_vec();
    packet[2] = 0x84;
    packet[3] = if addresses.is_empty() { 0x83 } else { 0x80 };
    packet[4..12].copy_from_slice(&[0, 1, 0, u8::try_from(data.len()).expect("a few"), 0, 0, 0, 0]);
    for data in data {
        // The name of the question, the type, the class IN, no time to live.
        packet.extend([0xc0, 12]);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1, 0, 0, 0, 0, 0, u8::try_from(data.len()).expect("an address")]);
        packet.extend(data);
    }
    packet
}
