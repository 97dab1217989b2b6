//! Flags, what is recorded, and defaults made into an order; checked before anything is made.
use std::path::Path;

use super::args::{OrderArgs, PackageArgs};
use crate::droplet::digitalocean::{ApiError, DigitalOcean, Droplet, KeyRef, Vpc};
use crate::droplet::keys;
use crate::droplet::record::{Order, Package, Record};
use crate::droplet::site::{DropletError, Site};

const REGION: &str = "sfo3";
const IMAGE: &str = "debian-12-x64";
const SIZE: &str = "s-1vcpu-1gb";

/// Sizes that are named to who asked for one that is not there; there are hundreds.
const SIZES_SHOWN: usize = 12;

/// First bytes of a Debian package: an ar archive (deb(5)).
const DEB_MAGIC: &[u8] = b"!<arch>\ndebian-binary";

fn said<T>(text: impl Into<String>) -> Result<T, DropletError> {
    Err(DropletError::Said(text.into()))
}

fn wrong<T>(text: impl Into<String>) -> Result<T, DropletError> {
    Err(DropletError::Usage(text.into()))
}

/// As far as it can be told without the provider.
pub(super) fn unchecked(args: &OrderArgs, record: &Record) -> Result<Order, DropletError> {
    let mut order = picked(args, record)?;
    if let Some(other) = Other::of(&[], record) {
        beside(&other, args, &mut order)?;
    }
    Ok(order)
}

/// Of the flags, what the cluster was ordered with, and the defaults.
fn picked(args: &OrderArgs, record: &Record) -> Result<Order, DropletError> {
    let before = record.wanted.as_ref().map(|one| &one.order);
    if args.private_networking == Some(false) {
        return wrong(
            "hosts talk over the private network, unencrypted, and over no other: leave out --private-networking=false (or DIGITALOCEAN_PRIVATE_NETWORKING)",
        );
    }
    let pick = |given: &Option<String>, before: Option<&String>, default: &str| {
        given.clone().or_else(|| before.cloned()).unwrap_or_else(|| default.to_owned())
    };
    let region = pick(&args.region, before.map(|one| &one.region), REGION);
    // In another region it would be another one.
    let same = before.filter(|one| one.region == region);
    Ok(Order {
        size: pick(&args.size, before.map(|one| &one.size), SIZE),
        image: pick(&args.image, before.map(|one| &one.image), IMAGE),
        vpc: args.vpc.clone().or_else(|| same.and_then(|one| one.vpc.clone())),
        region,
        ssh_keys: Vec::new(),
        tags: match args.tags.is_empty() {
            true => before.map(|one| one.tags.clone()).unwrap_or_default(),
            false => args.tags.clone(),
        },
    })
}

/// The order, with all that it names looked up at the provider; `more` droplets are to be made beside those
/// that are `there`, in the same private network.
pub(super) async fn checked(
    site: &Site,
    args: &OrderArgs,
    there: &[Droplet],
    more: usize,
) -> Result<Order, DropletError> {
    let record = site.record();
    let before = record.wanted.as_ref().map(|one| &one.order);
    let mut order = picked(args, &record)?;
    let other = Other::of(there, &record);
    if let Some(other) = &other {
        beside(other, args, &mut order)?;
    }
    if more > 0 || before.is_some_and(|one| one.region != order.region || one.size != order.size) {
        exists(&site.api, &order).await?;
        room(&site.api, more).await?;
    }
    if let Some(vpc) = &order.vpc {
        order.vpc = Some(network(&site.api, vpc, &order.region).await?.id);
    }
    if let Some(Other { name, vpc: Some(vpc), .. }) = &other
        && order.vpc.as_ref().is_some_and(|asked| asked != vpc)
    {
        return said(format!(
            "{name} is in VPC {vpc}, and hosts in another would not reach it: leave --vpc out, or make another cluster with --cluster"
        ));
    }
    if args.ssh_keys.is_empty()
        && let Some(before) = before
        && are_there(site, &before.ssh_keys).await?
    {
        order.ssh_keys = before.ssh_keys.clone();
        return Ok(order);
    }
    order.ssh_keys = keys::choose(site, &args.ssh_keys).await?;
    Ok(order)
}

/// Where a cluster is: one of its droplets, there or asked for.
struct Other {
    name: String,
    region: String,
    vpc: Option<String>,
}

impl Other {
    fn of(there: &[Droplet], record: &Record) -> Option<Other> {
        let listed = there.first().map(|one| Other {
            name: one.name.clone(),
            region: one.region.slug.clone(),
            vpc: one.vpc_uuid.clone(),
        });
        // Of one that was never seen it is known what was asked for.
        let mut asked = record.droplets.iter().filter(|(_, one)| !one.requests.is_empty());
        listed.or_else(|| {
            let (name, entry) = asked.next()?;
            let Order { region, vpc, .. } = entry.order.clone();
            Some(Other { name: name.clone(), region, vpc })
        })
    }
}

/// A private network is of one region, so the order is for that of the others.
fn beside(other: &Other, args: &OrderArgs, order: &mut Order) -> Result<(), DropletError> {
    let Other { name, region, vpc } = other;
    match &args.region {
        Some(asked) if asked != region => said(format!(
            "{name} is in {region}, and a private network does not reach from there to {asked}: leave out --region (or DIGITALOCEAN_REGION), or make another cluster with --cluster"
        )),
        _ => {
            order.region.clone_from(region);
            if args.vpc.is_none() {
                order.vpc.clone_from(vpc);
            }
            Ok(())
        }
    }
}

/// Whether the account still has them all; another cluster's may have gone with it.
async fn are_there(site: &Site, keys: &[KeyRef]) -> Result<bool, DropletError> {
    let account = keys::owned(site).await?;
    let is_there = |key: &KeyRef| account.iter().any(|one| *key == KeyRef::Number(one.id));
    Ok(!keys.is_empty() && keys.iter().all(is_there))
}

async fn exists(api: &DigitalOcean, order: &Order) -> Result<(), DropletError> {
    let Order { region, size, image, .. } = order;
    let regions = api.regions().await?;
    let open = || {
        let open = regions.iter().filter(|one| one.available).map(|one| one.slug.as_str());
        open.collect::<Vec<_>>().join(", ")
    };
    match regions.iter().find(|one| one.slug == *region) {
        None => return said(format!("there is no region {region:?}; there are {}", open())),
        Some(one) if !one.available => {
            return said(format!(
                "region {region} takes no new droplets now; these do: {}",
                open()
            ));
        }
        Some(_) => {}
    }
    let sizes = api.sizes().await?;
    let Some(found) = sizes.iter().find(|one| one.slug == *size) else {
        let there = sizes.iter().filter(|one| one.available && one.regions.contains(region));
        let there: Vec<&str> = there.map(|one| one.slug.as_str()).take(SIZES_SHOWN).collect();
        return said(format!(
            "there is no size {size:?}; in {region} there are, among others: {}",
            there.join(", ")
        ));
    };
    if !found.available || !found.regions.contains(region) {
        let there = found.regions.join(", ");
        return said(format!("size {size} cannot be had in {region} now; it can be in: {there}"));
    }
    let Some(picture) = api.image(image).await? else {
        return said(format!(
            "there is no image {image:?}; debian-12-x64 and debian-13-x64 are known to work"
        ));
    };
    if !picture.regions.contains(region) {
        return said(format!("image {image} is not in {region}"));
    }
    if picture.min_disk_size > found.disk {
        let (need, have) = (picture.min_disk_size, found.disk);
        return said(format!("image {image} needs a disk of {need} GB, and {size} has {have}"));
    }
    match picture.distribution.as_deref() {
        Some("Debian") | None => Ok(()),
        Some(other) => {
            said(format!("image {image} is a {other}: hosts are set up as Debian 12 or 13"))
        }
    }
}

async fn room(api: &DigitalOcean, more: usize) -> Result<(), DropletError> {
    let limit = match api.account().await {
        Ok(account) => account.droplet_limit,
        // The provider itself holds to it.
        Err(ApiError::Forbidden { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // How many there are already the provider itself counts; what can never fit is said before.
    match u64::try_from(more) {
        Ok(more) if more <= limit => Ok(()),
        _ => said(format!(
            "the account may have {limit} droplets, and {more} more are asked for: ask DigitalOcean to raise the limit"
        )),
    }
}

async fn network(api: &DigitalOcean, named: &str, region: &str) -> Result<Vpc, DropletError> {
    let vpcs = api.vpcs().await?;
    let found =
        vpcs.iter().find(|vpc| vpc.id == named || (vpc.name == named && vpc.region == region));
    match found {
        None => {
            let there = vpcs.iter().filter(|vpc| vpc.region == region);
            let there: Vec<String> =
                there.map(|vpc| format!("{} ({})", vpc.name, vpc.id)).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            said(format!("there is no VPC {named:?}; in {region} there are: {there}"))
        }
        Some(vpc) if vpc.region != region => said(format!(
            "VPC {named} is in {}, and the droplets are to be in {region}",
            vpc.region
        )),
        Some(vpc) => Ok(vpc.clone()),
    }
}

/// Where the agent comes from; `before`: where the cluster's came from.
pub(super) fn package(args: &PackageArgs, before: &Package) -> Result<Package, DropletError> {
    let Some(deb) = &args.deb else {
        if args.deb_sha256.is_some() {
            return wrong("--deb-sha256 needs --deb with a URL");
        }
        return Ok(before.clone());
    };
    let sha256 = args.deb_sha256.clone();
    let Some((scheme, _)) = deb.split_once("://") else {
        return match sha256 {
            Some(_) => wrong("--deb-sha256 is for a package from a URL"),
            None => file(Path::new(deb)).map(Package::File),
        };
    };
    let shown = without_login(deb);
    match scheme {
        "http" if sha256.is_none() => wrong(format!(
            "anybody on the way can change what {shown} sends: use https, or give --deb-sha256"
        )),
        "http" | "https" if is_url(deb) => Ok(Package::Url { url: deb.clone(), sha256 }),
        "http" | "https" => wrong(format!(
            "{shown} is no URL for a package: a space in it is %20, and no name or password may be in it"
        )),
        _ => wrong(format!("a package is fetched over https, and not over {scheme}: {shown}")),
    }
}

/// What is none would be refused only by the droplet. A password in it would stand in user data, which every
/// program on the droplet can read.
fn is_url(text: &str) -> bool {
    let host = text.split('/').nth(2).unwrap_or_default();
    !host.is_empty() && !host.contains('@') && text.bytes().all(|b| b.is_ascii_graphic())
}

fn without_login(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest)
}

fn file(path: &Path) -> Result<std::path::PathBuf, DropletError> {
    let unfit = |why: String| DropletError::Said(format!("{}: {why}", path.display()));
    let mut first = [0; DEB_MAGIC.len()];
    let read = std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut first));
    match read {
        Ok(()) if first == DEB_MAGIC => {
            std::path::absolute(path).map_err(|error| unfit(error.to_string()))
        }
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(unfit(error.to_string()))
        }
        _ => Err(unfit("that is no Debian package; `scripts/package` makes one".to_owned())),
    }
}
