//! The provider's API, version 2: what is asked of it, in types.
//!
//! | file | task |
//! |---|---|
//! | `digitalocean.rs` | [`DigitalOcean`]: one method for each request |
//! | `types` | what is sent and what comes back |
//! | `transport` | a request over HTTPS: time, size, retries, pages |
//! | `retry` | how often and how long, without a clock |
//! | `token` | the secret |
//! | `error` | why a request failed |
//!
//! Source: the reference of the API, <https://docs.digitalocean.com/reference/api/>.
mod error;
mod retry;
mod token;
mod transport;
mod types;

use serde_json::{Value, json};

pub(crate) use self::error::ApiError;
pub(crate) use self::token::Token;
use self::transport::Repeatable;
pub(crate) use self::transport::{DEFAULT_URL, Transport};
pub(crate) use self::types::{
    Account, Action, CreateDroplets, Droplet, Firewall, Image, KeyRef, Peers, Region, Rule, Size,
    SshKey, Tag, Vpc,
};
use self::types::{FirewallRequest, is_slug};

/// The account that a token belongs to.
pub(crate) struct DigitalOcean {
    transport: Transport,
}

impl DigitalOcean {
    pub(crate) fn new(transport: Transport) -> DigitalOcean {
        DigitalOcean { transport }
    }

    pub(crate) async fn account(&self) -> Result<Account, ApiError> {
        self.transport.get("/v2/account", &[], "account").await
    }

    pub(crate) async fn regions(&self) -> Result<Vec<Region>, ApiError> {
        self.transport.list("/v2/regions", &[], "regions").await
    }

    pub(crate) async fn sizes(&self) -> Result<Vec<Size>, ApiError> {
        self.transport.list("/v2/sizes", &[], "sizes").await
    }

    /// By its slug, or by its number.
    pub(crate) async fn image(&self, image: &str) -> Result<Option<Image>, ApiError> {
        if !is_slug(image) {
            return Ok(None);
        }
        found(self.transport.get(&format!("/v2/images/{image}"), &[], "image").await)
    }

    pub(crate) async fn vpcs(&self) -> Result<Vec<Vpc>, ApiError> {
        self.transport.list("/v2/vpcs", &[], "vpcs").await
    }

    pub(crate) async fn keys(&self) -> Result<Vec<SshKey>, ApiError> {
        self.transport.list("/v2/account/keys", &[], "ssh_keys").await
    }

    /// Who calls looks for it first; one that was added by an earlier try is refused by the next
    /// ([`ApiError::Unprocessable`]).
    pub(crate) async fn add_key(&self, name: &str, public: &str) -> Result<SshKey, ApiError> {
        let body = json!({ "name": name, "public_key": public });
        self.transport.post("/v2/account/keys", &body, "ssh_key", Repeatable::Yes).await
    }

    pub(crate) async fn remove_key(&self, id: u64) -> Result<(), ApiError> {
        self.transport.delete(&format!("/v2/account/keys/{id}")).await
    }

    /// Those with this tag.
    pub(crate) async fn tagged(&self, tag: &str) -> Result<Vec<Droplet>, ApiError> {
        self.transport.list("/v2/droplets", &[("tag_name", tag)], "droplets").await
    }

    pub(crate) async fn droplet(&self, id: u64) -> Result<Option<Droplet>, ApiError> {
        found(self.transport.get(&format!("/v2/droplets/{id}"), &[], "droplet").await)
    }

    /// Several alike, at most [`CreateDroplets::MOST`]. A lost answer is [`ApiError::Unclear`]: what was
    /// made has the request's own tag.
    pub(crate) async fn create(&self, asked: &CreateDroplets) -> Result<Vec<Droplet>, ApiError> {
        self.transport.post("/v2/droplets", asked, "droplets", Repeatable::No).await
    }

    pub(crate) async fn remove(&self, id: u64) -> Result<(), ApiError> {
        self.transport.delete(&format!("/v2/droplets/{id}")).await
    }

    /// The newest first.
    pub(crate) async fn actions_of(&self, droplet: u64) -> Result<Vec<Action>, ApiError> {
        self.transport.list(&format!("/v2/droplets/{droplet}/actions"), &[], "actions").await
    }

    /// A lost answer is [`ApiError::Unclear`].
    pub(crate) async fn act(&self, droplet: u64, what: &str) -> Result<Action, ApiError> {
        let path = format!("/v2/droplets/{droplet}/actions");
        self.transport.post(&path, &json!({ "type": what }), "action", Repeatable::No).await
    }

    pub(crate) async fn action(&self, id: u64) -> Result<Action, ApiError> {
        self.transport.get(&format!("/v2/actions/{id}"), &[], "action").await
    }

    /// A tag that is there already is fine.
    pub(crate) async fn add_tag(&self, tag: &str) -> Result<(), ApiError> {
        let asked = json!({ "name": tag });
        match self.transport.post::<Value>("/v2/tags", &asked, "tag", Repeatable::Yes).await {
            Ok(_) => Ok(()),
            // It was made, or is there: both can be seen.
            Err(error @ (ApiError::Unclear { .. } | ApiError::Unprocessable { .. })) => {
                self.tag(tag).await?.map(drop).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn tag(&self, tag: &str) -> Result<Option<Tag>, ApiError> {
        found(self.transport.get(&format!("/v2/tags/{tag}"), &[], "tag").await)
    }

    pub(crate) async fn tags(&self) -> Result<Vec<Tag>, ApiError> {
        self.transport.list("/v2/tags", &[], "tags").await
    }

    pub(crate) async fn remove_tag(&self, tag: &str) -> Result<(), ApiError> {
        self.transport.delete(&format!("/v2/tags/{tag}")).await
    }

    pub(crate) async fn firewalls(&self) -> Result<Vec<Firewall>, ApiError> {
        self.transport.list("/v2/firewalls", &[], "firewalls").await
    }

    /// One that was made by an earlier try is refused by the next: its name is taken
    /// ([`ApiError::Unprocessable`]).
    pub(crate) async fn add_firewall(
        &self,
        name: &str,
        tag: &str,
        inbound: &[Rule],
    ) -> Result<(), ApiError> {
        let asked = FirewallRequest::new(name, tag, inbound);
        let made =
            self.transport.post::<Value>("/v2/firewalls", &asked, "firewall", Repeatable::Yes);
        made.await.map(drop)
    }

    /// All of it: what is left out would be reset.
    pub(crate) async fn set_firewall(&self, firewall: &Firewall) -> Result<(), ApiError> {
        self.transport.put(&format!("/v2/firewalls/{}", firewall.id), firewall).await
    }

    pub(crate) async fn remove_firewall(&self, id: &str) -> Result<(), ApiError> {
        self.transport.delete(&format!("/v2/firewalls/{id}")).await
    }
}

fn found<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(it) => Ok(Some(it)),
        Err(ApiError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
