//! `GET /v1/resolve/explain`: what is answered to whoever asks for a name, and why.
//!
//! The addresses are those of the names table, as containers get them; what the core knows says how
//! they came to be there.

use std::net::IpAddr;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::QueryOf;
use super::api::explain::{Asker, Elsewhere, Explanation, Outcome, Record};
use crate::core::{Asked, Explained, Refusal, Request, Response};
use crate::dns::{Resolution, TTL};
use crate::driver::Agent;

pub(super) fn routes() -> Router<Agent> {
    Router::new().route("/v1/resolve/explain", get(explain))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    name: String,
    network: Option<String>,
    from: Option<String>,
}

async fn explain(
    State(agent): State<Agent>,
    query: QueryOf<Question>,
) -> Result<Json<Explanation>, Refusal> {
    let Query(Question { name, network, from }) =
        query.map_err(|e| Refusal::invalid(e.body_text()))?;
    let asked = Asked { name: name.clone(), network, from };
    let answer = agent.ask(Request::Explain(asked)).await?;
    let Response::Explained(explained) = answer else {
        return Err(Refusal::unavailable("the agent gave an answer to another question"));
    };
    let table = agent.names().read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let resolution = table.resolve(explained.scope.as_deref(), &name);
    drop(table);
    let servers = match resolution {
        Resolution::NotOurs => agent.upstreams(),
        Resolution::Found(_) | Resolution::NoSuchName => Vec::new(),
    };
    Ok(Json(explanation(name, *explained, resolution, servers)))
}

fn explanation(
    name: String,
    explained: Explained,
    resolution: Resolution,
    servers: Vec<std::net::SocketAddr>,
) -> Explanation {
    let Explained { asker, mut records, left_out, near, .. } = explained;
    let (outcome, addresses) = match resolution {
        Resolution::Found(addresses) => (Outcome::Found, addresses),
        Resolution::NoSuchName => (Outcome::NoSuchName, Vec::new()),
        Resolution::NotOurs => (Outcome::Elsewhere, Vec::new()),
    };
    for record in records.iter_mut().filter(|record| record.answers) {
        if !record.addresses.iter().any(|address| addresses.contains(address)) {
            record.answers = false;
            record.why = "the names table has not taken it in yet; ask again".to_owned();
        }
    }
    let elsewhere = (outcome == Outcome::Elsewhere).then(|| {
        let resolver = match asker.docker {
            Some(true) => "docker",
            Some(false) => "host",
            None => "either",
        };
        Elsewhere { resolver: resolver.to_owned(), servers }
    });
    let summary = summary(&name, &asker, outcome, &addresses, &records, elsewhere.as_ref());
    let ttl_seconds = (outcome != Outcome::Elsewhere).then_some(TTL);
    Explanation {
        name,
        asker,
        outcome,
        addresses,
        ttl_seconds,
        records,
        left_out,
        near,
        elsewhere,
        summary,
    }
}

fn summary(
    name: &str,
    asker: &Asker,
    outcome: Outcome,
    addresses: &[IpAddr],
    records: &[Record],
    elsewhere: Option<&Elsewhere>,
) -> String {
    let who = asker.endpoint.as_ref().map_or_else(String::new, |asker| format!(" for {asker}"));
    // Of those that have the name and are not answered, the first one says most.
    let but = records.iter().find(|record| !record.answers).map(|record| {
        format!("; {} on host {} is not answered: {}", record.endpoint, record.host, record.why)
    });
    match (outcome, elsewhere) {
        (Outcome::Found, _) => {
            let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let by = records.iter().filter(|record| record.answers);
            let by: Vec<String> = by
                .map(|r| format!("{} of network {}, on host {}", r.endpoint, r.network, r.host))
                .collect();
            format!("\"{name}\" is {}{who}, by {}", list.join(", "), by.join("; "))
        }
        (Outcome::NoSuchName, _) => {
            format!("\"{name}\" does not exist{who} (NXDOMAIN){}", but.unwrap_or_default())
        }
        (Outcome::Elsewhere, elsewhere) => {
            let whom = elsewhere.map_or_else(|| "another resolver".to_owned(), whom);
            format!(
                "nothing is called \"{name}\"{who} here, so {whom} asked{}",
                but.unwrap_or_default()
            )
        }
    }
}

fn whom(elsewhere: &Elsewhere) -> String {
    let servers: Vec<String> = elsewhere.servers.iter().map(ToString::to_string).collect();
    let host = match servers.as_slice() {
        [] => "no resolver (the host has none) is".to_owned(),
        servers => format!("the host's resolvers ({}) are", servers.join(", ")),
    };
    match elsewhere.resolver.as_str() {
        "docker" => "Docker's own resolver in the container (127.0.0.11) is".to_owned(),
        "host" => host,
        _ => format!("Docker's own resolver, or outside of Docker {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(answers: bool, address: &str, why: &str) -> Record {
        Record {
            endpoint: "web".into(),
            names: vec!["web".into()],
            addresses: vec![address.parse().unwrap()],
            network: "blue".into(),
            host: "bee".into(),
            matched: "web".into(),
            generation: 7,
            known_seconds: 3,
            answers,
            why: why.into(),
        }
    }

    fn told(records: Vec<Record>, resolution: Resolution, docker: Option<bool>) -> Explanation {
        let asker = Asker { endpoint: Some("db".into()), docker, ..Asker::default() };
        let explained = Explained { asker, records, ..Explained::default() };
        explanation("web".into(), explained, resolution, vec!["192.0.2.53:53".parse().unwrap()])
    }

    #[test]
    fn an_answer_names_who_answers_and_how_long_it_may_be_kept() {
        let address = "10.99.0.9".parse().unwrap();
        let told = told(
            vec![record(true, "10.99.0.9", "it does")],
            Resolution::Found(vec![address]),
            None,
        );
        assert_eq!((told.outcome, told.ttl_seconds), (Outcome::Found, Some(TTL)));
        assert_eq!(
            told.summary,
            "\"web\" is 10.99.0.9 for db, by web of network blue, on host bee"
        );
        assert_eq!(told.elsewhere, None);
    }

    #[test]
    fn what_is_not_ours_names_whom_else() {
        for (docker, who, words) in [
            (Some(true), "docker", "Docker's own resolver in the container (127.0.0.11) is asked"),
            (Some(false), "host", "the host's resolvers (192.0.2.53:53) are asked"),
            (None, "either", "Docker's own resolver, or outside of Docker the host's resolvers"),
        ] {
            let told =
                told(vec![record(false, "10.99.0.9", "elsewhere")], Resolution::NotOurs, docker);
            assert_eq!(told.elsewhere.unwrap().resolver, who);
            assert!(told.summary.contains(words), "{}", told.summary);
            assert!(told.summary.ends_with("web on host bee is not answered: elsewhere"));
            assert_eq!(told.ttl_seconds, None);
        }
    }

    #[test]
    fn a_record_that_the_table_lacks_does_not_answer() {
        let told = told(vec![record(true, "10.99.0.9", "it does")], Resolution::NoSuchName, None);
        assert_eq!((told.outcome, told.records[0].answers), (Outcome::NoSuchName, false));
        assert!(told.summary.contains("does not exist for db (NXDOMAIN); web on host bee"));
    }
}
