//! The metadata server: who a droplet is, at `http://169.254.169.254/metadata/v1`.
//!
//! One thread of this process for a lab, on the public bridge. It knows a droplet by the address that
//! asks, and serves files below `underlay/metadata/ADDRESS` of the lab's folder, in the form that
//! DigitalOcean documents: `v1.json`, and each value as a path of its own. The thread ends with the
//! lab's underlay.
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Addresses, DropletSeed, droplet};
use crate::folder::{self, Folder};
use crate::underlay::Underlay;
use crate::{LabError, spec};

const PORT: u16 = 80;
/// How often the server looks whether somebody came, or its lab is gone.
const STEP: Duration = Duration::from_millis(20);
/// How long somebody who asks may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Of what is read of a request.
const MOST_BYTES: u64 = 16 * 1024;
const NETMASK: &str = "255.255.255.0";
/// What the provider adds to each user data: root may log in.
const VENDOR_DATA: &str = "#cloud-config\ndisable_root: false\nmanage_etc_hosts: true\n";

/// Writes what the server is to tell a droplet.
pub(super) fn write(
    lab: &Folder,
    addresses: Addresses,
    seed: &DropletSeed,
) -> Result<(), LabError> {
    let folder = folder_of(lab, addresses.public).join("metadata");
    folder::make_folder(&folder)?;
    folder::write_file(&folder.join("v1.json"), &document(addresses, seed).to_string())?;
    for (path, text) in values(addresses, seed) {
        let path = folder.join("v1").join(path);
        folder::make_folder(path.parent().unwrap_or(&folder))?;
        folder::write_file(&path, &text)?;
    }
    Ok(())
}

/// Forgets a droplet.
pub(super) fn remove(lab: &Folder, addresses: Addresses) {
    // The next one with the address writes its own.
    let _ = fs::remove_dir_all(folder_of(lab, addresses.public));
}

/// Sees to it that the lab has its server, whose address is there.
pub(super) fn serve(lab: &Folder, underlay: &Underlay) -> Result<(), LabError> {
    let address = SocketAddr::from((spec::METADATA, PORT));
    let listener = underlay.sandbox().inside_network(|| TcpListener::bind(address));
    let listener = match listener {
        // Another droplet's is there.
        Err(error) if error.kind() == ErrorKind::AddrInUse => return Ok(()),
        other => other.and_then(|one| one.set_nonblocking(true).map(|()| one)),
    };
    let program = "the metadata server".to_owned();
    let listener = listener.map_err(|source| LabError::Spawn { program, source })?;
    let lab = lab.clone();
    std::thread::spawn(move || {
        while Underlay::open(&lab).is_some() {
            match listener.accept() {
                // Who goes away in the middle asks again.
                Ok((stream, peer)) => drop(answer(&lab, &stream, peer.ip())),
                Err(_) => std::thread::sleep(STEP),
            }
        }
    });
    Ok(())
}

fn answer(lab: &Folder, stream: &TcpStream, peer: IpAddr) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut lines = BufReader::new(stream.take(MOST_BYTES)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The rest of the request is read, or the kernel would answer it with a reset.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match found(lab, peer, &request) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", b"not found".to_vec()),
    };
    let length = body.len();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}

fn found(lab: &Folder, peer: IpAddr, request: &str) -> Option<Vec<u8>> {
    let IpAddr::V4(peer) = peer else { return None };
    let path = request.strip_prefix("GET /")?.split(' ').next()?;
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    fs::read(folder_of(lab, peer).join(Path::new(path.trim_start_matches('/')))).ok()
}

fn folder_of(lab: &Folder, public: Ipv4Addr) -> PathBuf {
    lab.join("underlay/metadata").join(public.to_string())
}

fn document(addresses: Addresses, seed: &DropletSeed) -> Value {
    json!({
        "droplet_id": seed.id,
        "hostname": seed.hostname,
        "vendor_data": VENDOR_DATA,
        "user_data": seed.user_data,
        "public_keys": seed.public_keys,
        "region": seed.region,
        "interfaces": {
            "public": [interface("public", addresses.public, spec::public_gateway())],
            "private": [interface("private", addresses.private, spec::bridge_address())],
        },
        "dns": { "nameservers": [spec::public_gateway()] },
    })
}

fn interface(kind: &str, address: Ipv4Addr, gateway: Ipv4Addr) -> Value {
    json!({
        "ipv4": { "ip_address": address, "netmask": NETMASK, "gateway": gateway },
        "mac": droplet::mac(address),
        "type": kind,
    })
}

/// Paths below `/metadata/v1`, and what is there.
fn values(addresses: Addresses, seed: &DropletSeed) -> Vec<(String, String)> {
    let mut values: Vec<(String, String)> = [
        ("id", seed.id.to_string()),
        ("hostname", seed.hostname.clone()),
        ("region", seed.region.clone()),
        ("user-data", seed.user_data.clone()),
        ("vendor-data", VENDOR_DATA.to_owned()),
        ("public-keys", seed.public_keys.join("\n")),
        ("dns/nameservers", spec::public_gateway().to_string()),
    ]
    .map(|(path, text)| (path.to_owned(), text))
    .into();
    let sides = [
        ("public", addresses.public, spec::public_gateway()),
        ("private", addresses.private, spec::bridge_address()),
    ];
    for (side, address, gateway) in sides {
        let folder = format!("interfaces/{side}/0");
        values.push((format!("{folder}/type"), side.to_owned()));
        values.push((format!("{folder}/mac"), droplet::mac(address)));
        values.push((format!("{folder}/ipv4/address"), address.to_string()));
        values.push((format!("{folder}/ipv4/netmask"), NETMASK.to_owned()));
        values.push((format!("{folder}/ipv4/gateway"), gateway.to_string()));
    }
    values
}
