//! What each command does: asks the agent, and says what came of it.
use crate::args::Command;
use crate::client::Client;
use crate::error::Error;
use crate::output::Output;

mod agent;
pub(crate) mod audit;
pub(crate) mod bundle;
pub(crate) mod capture;
mod cluster;
mod confirm;
mod doctor;
mod droplet;
mod endpoint;
pub(crate) mod events;
mod network;
pub(crate) mod ping;
pub(crate) mod resolve;
pub(crate) mod top;
pub(crate) mod trace;

pub(crate) use doctor::Doctor;
pub(crate) use droplet::Droplets;

pub(crate) async fn run(command: Command, client: &Client, output: &Output) -> Result<(), Error> {
    match command {
        Command::Status => cluster::status(client, output).await,
        Command::Members => cluster::members(client, output).await,
        Command::Resolve(asked) => resolve::run(asked, client, output).await,
        Command::Ping(args) => ping::run(args, client, output).await,
        Command::Bundle(args) => bundle::run(args, client, output).await,
        Command::Trace(args) => trace::run(args, client, output).await,
        Command::Capture(capture) => capture::run(capture, client, output).await,
        Command::Audit(asked) => audit::run(asked, client, output).await,
        Command::Events(asked) => events::run(asked, client, output).await,
        Command::Top(args) => top::run(args, client, output).await,
        Command::Doctor(doctor) => doctor::run(doctor, client, output).await,
        Command::Reload => agent::reload(client, output).await,
        Command::Leave(leave) => agent::leave(leave, client, output).await,
        Command::Droplet(droplets) => droplet::run(*droplets, client, output).await,
        Command::Network(command) => network::run(command, client, output).await,
        Command::Endpoint(command) => endpoint::run(command, client, output).await,
    }
}
