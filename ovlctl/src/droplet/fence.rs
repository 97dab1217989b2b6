//! The firewall at the provider, in front of every droplet of a cluster by its tag.
//!
//! From outside: SSH, and what was asked for. Among the cluster's droplets: gossip, VXLAN, and the store. The
//! store is bound to the private address only, and the host's own firewall takes it from there only: the
//! provider's rules know no interfaces.
use std::collections::BTreeSet;
use std::str::FromStr;

use serde::Deserialize as _;
use serde_json::Value;

use super::digitalocean::{ApiError, DigitalOcean, Firewall, Peers, Rule};
use super::names::{Cluster, OURS};
use super::site::DropletError;

/// A port that is open to everybody, as `80` or `51820/udp` or `8000-8010/tcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    protocol: &'static str,
    ports: String,
}

impl FromStr for Open {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Open, Self::Err> {
        const FORM: &str =
            "a port or a range, with /tcp or /udp behind it: 80, 51820/udp, 8000-8010/tcp";
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => "tcp",
            "udp" => "udp",
            _ => return Err(FORM),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(FORM);
        match (port(first)?, port(last)?) {
            (first, last) if first <= last => Ok(Open { protocol, ports: ports.to_owned() }),
            _ => Err(FORM),
        }
    }
}

/// What comes in.
pub(crate) fn rules(cluster: &Cluster, open: &[Open]) -> Vec<Rule> {
    let rule = |protocol: &str, ports: &str, sources| Rule {
        protocol: protocol.to_owned(),
        ports: ports.to_owned(),
        sources,
    };
    let among = || Peers::tagged(&cluster.tag());
    let mut rules = vec![
        rule("tcp", "22", Peers::anywhere()),
        rule("tcp", "7946", among()),
        rule("udp", "7946", among()),
        rule("udp", "4789", among()),
        rule("tcp", "8500", among()),
        // Without it nobody can ping, and doctor cannot measure.
        rule("icmp", "0", among()),
    ];
    for Open { protocol, ports } in open {
        let more = rule(protocol, ports, Peers::anywhere());
        if !rules.contains(&more) {
            rules.push(more);
        }
    }
    rules
}

/// Makes the cluster's firewall be so; ports that were opened before stay open. Says what was changed.
///
/// # Errors
/// The provider's, and a firewall of others that has its name.
pub(crate) async fn raise(
    api: &DigitalOcean,
    cluster: &Cluster,
    open: &[Open],
) -> Result<Option<String>, DropletError> {
    // A firewall can name only tags that are there.
    api.add_tag(OURS).await?;
    api.add_tag(&cluster.tag()).await?;
    let (name, tag) = (cluster.firewall(), cluster.tag());
    let wanted = rules(cluster, open);
    match find(api, cluster).await? {
        Some(mut have) => {
            if !extend(&mut have, &wanted) {
                return Ok(None);
            }
            api.set_firewall(&have).await?;
            Ok(Some(format!("changed the cloud firewall {name}")))
        }
        None => match api.add_firewall(&name, &tag, &wanted).await {
            Ok(()) => Ok(Some(format!("made the cloud firewall {name}"))),
            // It may have been made by an earlier try; or its name is taken.
            Err(error @ (ApiError::Unclear { .. } | ApiError::Unprocessable { .. })) => {
                match api.firewalls().await?.into_iter().find(|one| one.name == name) {
                    None => Err(error.into()),
                    Some(one) if has(&one, &tag) => {
                        Ok(Some(format!("made the cloud firewall {name}")))
                    }
                    Some(_) => Err(DropletError::Said(format!(
                        "there is a cloud firewall {name} that lacks the tag {tag}, so it is not this cluster's: rename or remove it, or take another name with --cluster"
                    ))),
                }
            }
            Err(error) => Err(error.into()),
        },
    }
}

/// The cluster's firewall, if it is there: by its name and its tag.
pub(crate) async fn find(
    api: &DigitalOcean,
    cluster: &Cluster,
) -> Result<Option<Firewall>, ApiError> {
    let (name, tag) = (cluster.firewall(), cluster.tag());
    let is_ours = |one: &Firewall| one.name == name && has(one, &tag);
    Ok(api.firewalls().await?.into_iter().find(is_ours))
}

/// Whether it is in front of the cluster's droplets alone.
pub(crate) fn is_alone(firewall: &Firewall, cluster: &Cluster) -> bool {
    let tag = cluster.tag();
    firewall.droplet_ids.is_empty()
        && firewall.tags.iter().all(|one| one.eq_ignore_ascii_case(&tag))
}

fn has(firewall: &Firewall, tag: &str) -> bool {
    firewall.tags.iter().any(|one| one.eq_ignore_ascii_case(tag))
}

/// Adds what is missing, and leaves what others made of it. Whether anything was.
fn extend(firewall: &mut Firewall, wanted: &[Rule]) -> bool {
    let rules = firewall.inbound_rules.iter().filter_map(|rule| Rule::deserialize(rule).ok());
    let have: BTreeSet<_> = rules.map(|rule| key(&rule)).collect();
    let missing = wanted.iter().filter(|rule| !have.contains(&key(rule)));
    let missing: Vec<Value> = missing.filter_map(|rule| serde_json::to_value(rule).ok()).collect();
    let changed = !missing.is_empty();
    firewall.inbound_rules.extend(missing);
    changed
}

/// A rule, however the provider writes it: all ports are `0`, and ICMP has some or none.
fn key(rule: &Rule) -> (String, String, BTreeSet<String>, BTreeSet<String>) {
    let ports = match (rule.protocol.as_str(), rule.ports.as_str()) {
        ("icmp", _) => "",
        (_, "all" | "0") => "0",
        (_, ports) => ports,
    };
    let lower = |tags: &BTreeSet<String>| tags.iter().map(|tag| tag.to_ascii_lowercase()).collect();
    (
        rule.protocol.clone(),
        ports.to_owned(),
        rule.sources.addresses.clone(),
        lower(&rule.sources.tags),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ssh_and_what_was_asked_for_is_open_to_everybody() {
        let cluster = "default".parse().unwrap();
        let open = ["80".parse().unwrap(), "51820/udp".parse().unwrap(), "22".parse().unwrap()];
        let rules = rules(&cluster, &open);
        let shown = |rule: &Rule| format!("{} {}", rule.protocol, rule.ports);
        let (open, closed): (Vec<_>, Vec<_>) =
            rules.iter().partition(|rule| rule.sources == Peers::anywhere());
        assert_eq!(
            open.into_iter().map(shown).collect::<Vec<_>>(),
            ["tcp 22", "tcp 80", "udp 51820"]
        );
        let closed: Vec<_> = closed
            .into_iter()
            .map(|rule| {
                assert_eq!(rule.sources, Peers::tagged("ovl:cluster:default"));
                shown(rule)
            })
            .collect();
        assert_eq!(closed, ["tcp 7946", "udp 7946", "udp 4789", "tcp 8500", "icmp 0"]);
    }

    #[test]
    fn a_port_is_a_port() {
        for bad in ["", "0", "65536", "80/sctp", "9-8", "a", "1-2-3", "80/"] {
            assert!(bad.parse::<Open>().is_err(), "{bad}");
        }
        assert!("8000-8010/tcp".parse::<Open>().is_ok());
    }

    #[test]
    fn what_others_made_of_a_firewall_stays() {
        let cluster = "default".parse().unwrap();
        let rules = rules(&cluster, &[]);
        let mut have: Firewall = serde_json::from_value(json!({
            "id": "1", "name": "ovl-default", "tags": ["OVL:cluster:default"], "droplet_ids": [7],
            "inbound_rules": rules,
            "outbound_rules": [{ "protocol": "tcp", "ports": "443", "destinations": {} }],
        }))
        .unwrap();
        have.inbound_rules[5]["ports"] = json!("0");
        have.inbound_rules.push(json!({
            "protocol": "tcp", "ports": "9", "sources": { "load_balancer_uids": ["x"] }
        }));
        let before = have.clone();
        assert!(!extend(&mut have, &rules));
        assert!(has(&have, "ovl:cluster:default") && !is_alone(&have, &cluster));
        assert_eq!((have.inbound_rules.len(), have.droplet_ids.len()), (7, 1));
        assert_eq!(have.outbound_rules, before.outbound_rules);
        have.inbound_rules.remove(0);
        assert!(extend(&mut have, &rules));
        assert_eq!(have.inbound_rules[6]["ports"], "22");
    }
}
