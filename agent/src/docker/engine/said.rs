//! What Docker said, as far as it matters here: its models in, the follower's own types out. SANS-IO.
use std::collections::BTreeSet;
use std::path::PathBuf;

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, EndpointSettings, EventMessage,
    EventMessageTypeEnum,
};

use super::ContainerEndpoint;
use super::names::{self, Called};

/// One of Docker's events, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// A network of this driver came, or was seen.
    NetworkSeen { network: String },
    /// A network went.
    NetworkGone { network: String },
    /// A container was connected to a network of this driver.
    Connected { container: String, network: String },
    /// A container was started: what it has may not have been visible before.
    Started { container: String },
    /// A container was renamed, disconnected, stopped or removed.
    Touched { container: String },
}

/// What the listing of networks and running containers said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Docker's version.
    pub(super) version: String,
    /// Ids of the networks of this driver.
    pub(super) networks: BTreeSet<String>,
    /// The running containers, those of other drivers too.
    pub(super) containers: Vec<Listed>,
}

/// A running container in the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) name: String,
    /// Network id and endpoint id.
    pub(super) endpoints: Vec<(String, String)>,
}

/// What an inspect said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inspected {
    /// It runs, with these endpoints, those on networks of other drivers too.
    Running(Vec<ContainerEndpoint>),
    /// It does not run, or does not exist.
    Gone,
    /// Nothing is known: it took too long, or Docker gave an error.
    Failed(String),
}

/// A running container; None without an id.
pub(super) fn listed(container: ContainerSummary) -> Option<Listed> {
    let networks = container.network_settings.and_then(|settings| settings.networks);
    // With legacy links there are more names, of the form /other/alias.
    let own = |name: &String| !name.trim_start_matches('/').contains('/');
    let name = container.names.unwrap_or_default().into_iter().find(own);
    Some(Listed {
        id: container.id?,
        name: name.unwrap_or_default(),
        endpoints: networks.unwrap_or_default().into_values().filter_map(ids).collect(),
    })
}

/// Network and endpoint id; None while the container does not run.
fn ids(endpoint: EndpointSettings) -> Option<(String, String)> {
    let filled = |id: &String| !id.is_empty();
    Some((endpoint.network_id.filter(filled)?, endpoint.endpoint_id.filter(filled)?))
}

/// What a container has, if it runs.
pub(super) fn inspected(id: &str, container: ContainerInspectResponse) -> Inspected {
    let running = container.state.and_then(|state| state.running);
    let settings = container.network_settings.unwrap_or_default();
    if running != Some(true) {
        return Inspected::Gone;
    }
    let sandbox = PathBuf::from(settings.sandbox_key.unwrap_or_default());
    let name = container.name.unwrap_or_default();
    let hostname = container.config.and_then(|config| config.hostname).unwrap_or_default();
    let endpoint = |endpoint: EndpointSettings| {
        let aliases = endpoint.aliases.clone().unwrap_or_default();
        let dns_names = endpoint.dns_names.clone().unwrap_or_default();
        let (network_id, endpoint_id) = ids(endpoint)?;
        let called = Called {
            id,
            name: &name,
            hostname: &hostname,
            aliases: &aliases,
            dns_names: &dns_names,
        };
        Some(ContainerEndpoint {
            container: id.to_owned(),
            endpoint_id,
            network_id,
            names: names::names(called),
            sandbox: sandbox.clone(),
        })
    };
    let networks = settings.networks.unwrap_or_default();
    Inspected::Running(networks.into_values().filter_map(endpoint).collect())
}

/// An event, if it matters for networks of `driver`.
pub(super) fn happening(driver: &str, event: EventMessage) -> Option<Happening> {
    let actor = event.actor?;
    let id = actor.id.filter(|id| !id.is_empty())?;
    let mut attributes = actor.attributes.unwrap_or_default();
    let action = event.action.unwrap_or_default();
    if event.typ == Some(EventMessageTypeEnum::CONTAINER) {
        return match action.as_str() {
            "start" => Some(Happening::Started { container: id }),
            "rename" | "die" | "destroy" => Some(Happening::Touched { container: id }),
            _ => None,
        };
    }
    let ours = attributes.get("type").is_some_and(|kind| kind == driver);
    if event.typ != Some(EventMessageTypeEnum::NETWORK) || !ours {
        return None;
    }
    let container = attributes.remove("container").filter(|id| !id.is_empty());
    match (action.as_str(), container) {
        ("create", _) => Some(Happening::NetworkSeen { network: id }),
        ("destroy" | "remove", _) => Some(Happening::NetworkGone { network: id }),
        ("connect", Some(container)) => Some(Happening::Connected { container, network: id }),
        ("disconnect", Some(container)) => Some(Happening::Touched { container }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(
        kind: EventMessageTypeEnum,
        action: &str,
        attributes: &[(&str, &str)],
    ) -> Option<Happening> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let event = EventMessage {
            typ: Some(kind),
            action: Some(action.into()),
            actor: Some(bollard::models::EventActor {
                id: Some("id".into()),
                attributes: Some(attributes.iter().map(owned).collect()),
            }),
            ..EventMessage::default()
        };
        happening("ovl", event)
    }

    #[test]
    fn events_of_containers_say_which_one() {
        let container = || "id".to_owned();
        let started = Some(Happening::Started { container: container() });
        assert_eq!(heard(EventMessageTypeEnum::CONTAINER, "start", &[]), started);
        for action in ["rename", "die", "destroy"] {
            let touched = Some(Happening::Touched { container: container() });
            assert_eq!(heard(EventMessageTypeEnum::CONTAINER, action, &[]), touched);
        }
        assert_eq!(heard(EventMessageTypeEnum::CONTAINER, "exec_create: ls", &[]), None);
        assert_eq!(heard(EventMessageTypeEnum::VOLUME, "destroy", &[("type", "ovl")]), None);
    }

    #[test]
    fn events_of_networks_count_for_our_driver_only() {
        let (network, container) = ("id".to_owned(), "c1".to_owned());
        let ours = [("type", "ovl"), ("container", "c1"), ("name", "blue")];
        let hear = |action, attributes: &[(&str, &str)]| {
            heard(EventMessageTypeEnum::NETWORK, action, attributes)
        };
        let connected =
            Happening::Connected { container: container.clone(), network: network.clone() };
        assert_eq!(hear("connect", &ours), Some(connected));
        assert_eq!(hear("disconnect", &ours), Some(Happening::Touched { container }));
        let seen = Happening::NetworkSeen { network: network.clone() };
        assert_eq!(hear("create", &ours), Some(seen));
        for action in ["destroy", "remove"] {
            let gone = Happening::NetworkGone { network: network.clone() };
            assert_eq!(hear(action, &ours), Some(gone));
        }
        for action in ["connect", "disconnect", "create", "destroy", "remove"] {
            assert_eq!(hear(action, &[("type", "bridge"), ("container", "c1")]), None);
        }
        assert_eq!(hear("connect", &[("type", "ovl")]), None);
    }

    #[test]
    fn an_event_without_its_parts_is_nothing() {
        assert_eq!(happening("ovl", EventMessage::default()), None);
    }

    #[test]
    fn a_container_that_says_nothing_of_itself_does_not_run() {
        let nothing = ContainerInspectResponse::default();
        assert_eq!(inspected("id", nothing), Inspected::Gone);
        assert_eq!(listed(ContainerSummary::default()), None);
    }

    #[test]
    fn a_linked_container_is_listed_by_its_own_name() {
        let summary = ContainerSummary {
            id: Some("id".into()),
            names: Some(vec!["/other/alias".into(), "/own".into()]),
            ..ContainerSummary::default()
        };
        assert_eq!(listed(summary).unwrap().name, "/own");
    }
}
