//! What the server promises to the tests that use it.

mod client;
mod faults;
mod firewalls;
mod lists;
mod machines;
mod strictness;

use std::process::Command;

use serde_json::{Value, json};

use super::{DigitalOcean, Settings};
use client::Client;

/// A server, and a client that it lets in.
fn started(settings: Settings) -> (DigitalOcean, Client) {
    let server = DigitalOcean::start(settings).unwrap();
    let client = Client::of(&server);
    (server, client)
}

/// A droplet that can be ordered.
fn order(name: &str) -> Value {
    json!({
        "name": name, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
    })
}

/// A public key that nobody else has.
fn public_key() -> String {
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let folder = std::env::temp_dir().join(format!("ovl-key-{}-{thread}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "keeper@apiary", "-f"]);
    assert!(keygen.arg(folder.join("key")).status().unwrap().success());
    let key = std::fs::read_to_string(folder.join("key.pub")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    key
}
