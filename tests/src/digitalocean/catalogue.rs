//! What DigitalOcean has to offer here: regions, sizes and images.
use serde_json::{Value, json};

/// A region.
pub(super) struct Region {
    pub(super) slug: &'static str,
    name: &'static str,
    /// Whether droplets can be made there.
    pub(super) available: bool,
}

/// A size of droplets.
pub(super) struct Size {
    pub(super) slug: &'static str,
    memory: u32,
    vcpus: u32,
    /// In GB.
    pub(super) disk: u32,
    price: f64,
    /// Where it is offered.
    pub(super) regions: &'static [&'static str],
    /// Whether droplets of it can be made.
    pub(super) available: bool,
    class: &'static str,
}

/// An image.
pub(super) struct Image {
    pub(super) id: u64,
    /// Public images have one.
    pub(super) slug: Option<&'static str>,
    name: &'static str,
    distribution: &'static str,
    pub(super) kind: &'static str,
    /// Whether it is a 1-Click application rather than a distribution.
    pub(super) application: bool,
    /// In GB.
    pub(super) min_disk: u32,
    /// Where it can be used.
    pub(super) regions: &'static [&'static str],
}

const EVERYWHERE: &[&str] = &["fra1", "nyc2", "nyc3", "sfo3"];

/// All regions.
pub(super) const REGIONS: &[Region] = &[
    Region { slug: "nyc2", name: "New York 2", available: false },
    Region { slug: "nyc3", name: "New York 3", available: true },
    Region { slug: "sfo3", name: "San Francisco 3", available: true },
    Region { slug: "fra1", name: "Frankfurt 1", available: true },
];

/// All sizes.
pub(super) const SIZES: &[Size] = &[
    size("s-1vcpu-512mb-10gb", (512, 1, 10, 4.0), &["fra1", "nyc3", "sfo3"], "Basic"),
    size("s-1vcpu-1gb", (1024, 1, 25, 6.0), &["fra1", "nyc3", "sfo3"], "Basic"),
    size("s-1vcpu-2gb", (2048, 1, 50, 12.0), &["fra1", "nyc3", "sfo3"], "Basic"),
    size("s-2vcpu-4gb", (4096, 2, 80, 24.0), &["fra1", "nyc3", "sfo3"], "Basic"),
    size("c-2", (4096, 2, 25, 42.0), &["fra1", "nyc3"], "CPU-Optimized"),
    Size {
        available: false,
        ..size("m-2vcpu-16gb", (16384, 2, 50, 84.0), &[], "Memory-Optimized")
    },
];

/// All images.
pub(super) const IMAGES: &[Image] = &[
    image(153_000_012, "debian-12-x64", ("12 x64", "Debian"), 7, &["fra1", "nyc3", "sfo3"]),
    image(153_000_013, "debian-13-x64", ("13 x64", "Debian"), 7, &["fra1", "nyc3"]),
    image(153_000_024, "ubuntu-24-04-x64", ("24.04 (LTS) x64", "Ubuntu"), 8, EVERYWHERE),
    Image {
        application: true,
        ..image(153_000_077, "docker-20-04", ("Docker on Ubuntu", "Ubuntu"), 25, EVERYWHERE)
    },
    Image {
        slug: None,
        kind: "snapshot",
        ..image(153_000_099, "", ("queenbee-snapshot", "Debian"), 10, &["nyc3"])
    },
];

const fn size(
    slug: &'static str,
    (memory, vcpus, disk, price): (u32, u32, u32, f64),
    regions: &'static [&'static str],
    class: &'static str,
) -> Size {
    Size { slug, memory, vcpus, disk, price, regions, available: true, class }
}

const fn image(
    id: u64,
    slug: &'static str,
    (name, distribution): (&'static str, &'static str),
    min_disk: u32,
    regions: &'static [&'static str],
) -> Image {
    let slug = Some(slug);
    Image { id, slug, name, distribution, kind: "base", application: false, min_disk, regions }
}

/// The region of a slug.
pub(super) fn region(slug: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|region| region.slug == slug)
}

/// The size of a slug.
pub(super) fn sized(slug: &str) -> Option<&'static Size> {
    SIZES.iter().find(|size| size.slug == slug)
}

/// The image of a slug or of a number.
pub(super) fn imaged(word: &str) -> Option<&'static Image> {
    let by_id = |image: &&Image| word.parse() == Ok(image.id);
    IMAGES.iter().find(|image| image.slug == Some(word) || by_id(image))
}

impl Region {
    /// As the API shows it.
    pub(super) fn shown(&self) -> Value {
        let offered = SIZES.iter().filter(|size| size.regions.contains(&self.slug));
        let sizes: Vec<&str> = offered.map(|size| size.slug).collect();
        json!({
            "slug": self.slug, "name": self.name, "available": self.available, "sizes": sizes,
            "features": ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"],
        })
    }
}

impl Size {
    /// As the API shows it.
    pub(super) fn shown(&self) -> Value {
        json!({
            "slug": self.slug, "memory": self.memory, "vcpus": self.vcpus, "disk": self.disk,
            "transfer": 1.0, "price_monthly": self.price, "price_hourly": self.price / 672.0,
            "regions": self.regions, "available": self.available, "description": self.class,
            "disk_info": [{"type": "local", "size": {"amount": self.disk, "unit": "gib"}}],
        })
    }

    /// The fields of a droplet that come of its size.
    pub(super) fn of_droplet(&self) -> [(&'static str, Value); 3] {
        [("memory", self.memory.into()), ("vcpus", self.vcpus.into()), ("disk", self.disk.into())]
    }
}

impl Image {
    /// As the API shows it.
    pub(super) fn shown(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "distribution": self.distribution, "slug": self.slug,
            "public": self.slug.is_some(), "regions": self.regions, "type": self.kind,
            "created_at": "2026-03-04T05:06:07Z", "min_disk_size": self.min_disk,
            "size_gigabytes": 0.61, "description": self.name, "tags": [], "status": "available",
            "error_message": "",
        })
    }
}
