//! Does the kernel have what ovl uses? Each feature is tried for real, where it harms nobody.

use std::time::Duration;

use ovl_vxlan::Probe;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::{Check, Group, Host, Look, blocking};
use crate::control::api::doctor::{Finding, Verdict};

const FEATURE: &str = "kernel.feature";

pub(super) const GROUP: Group = Group {
    checks: &[Check {
        id: FEATURE,
        title: "kernel features",
        looks_at: "VXLAN, macvlan, nf_tables and others, each tried in a network namespace of its own",
        why: "what this kernel cannot carry is known before a container finds out",
    }],
    within: Duration::from_secs(15),
    look: Look::Host(|host| Box::pin(look(host))),
};

async fn look(host: Host) -> Vec<Finding> {
    let probe = match host.probe().await {
        Ok(probe) => probe,
        Err(error) => {
            let why = format!("the features cannot be tried: {error}");
            return vec![Finding::unchecked(FEATURE, why).mend("run it as root")];
        }
    };
    let descriptors = blocking(|| {
        let opened = pidfd_open(getpid(), PidfdFlags::empty());
        // Standard output: whatever it is, a copy of it is made and closed.
        let copied = opened.and_then(|me| pidfd_getfd(me, 1, PidfdGetfdFlags::empty()));
        copied.map(drop).map_err(|errno| errno.to_string())
    });
    judge(probe, descriptors.await.unwrap_or_else(Err))
}

/// A feature, what follows when it is missing, and what to do.
struct Feature {
    name: &'static str,
    missing: Verdict,
    follows: &'static str,
    fix: &'static str,
}

const VXLAN: Feature = Feature {
    name: "vxlan",
    missing: Verdict::Fail,
    follows: "no overlay network can be made on this host",
    fix: "modprobe vxlan; where there is no such module, run a kernel with CONFIG_VXLAN",
};

const MACVLAN: Feature = Feature {
    name: "macvlan",
    missing: Verdict::Fail,
    follows: "no container of this host can be attached to an overlay network",
    fix: "modprobe macvlan; where there is no such module, run a kernel with CONFIG_MACVLAN",
};

const IPV6: Feature = Feature {
    name: "ipv6",
    missing: Verdict::Warn,
    follows: "networks with IPv6 carry IPv4 alone on this host",
    fix: "take ipv6.disable=1 off the kernel's command line, unless no network has IPv6",
};

const NF_TABLES: Feature = Feature {
    name: "nf_tables",
    missing: Verdict::Warn,
    follows: "broadcasts of containers can reach programs of this host that listen on all addresses",
    fix: "modprobe nf_tables; systemctl restart ovl-agent",
};

const OWNED_TABLE: Feature = Feature {
    name: "nf_tables-owner",
    missing: Verdict::Warn,
    follows: "containers of Docker find names of other hosts only with a DNS setting: see docker.dns",
    fix: "run Linux 5.12 or later, with nf_tables, nft_chain_nat and nft_nat",
};

const STRICT_DUMPS: Feature = Feature {
    name: "strict-dumps",
    missing: Verdict::Warn,
    follows: "audits read the rows of all devices for each of them, which is slow with many networks",
    fix: "run Linux 4.20 or later",
};

const PIDFD_GETFD: Feature = Feature {
    name: "pidfd_getfd",
    missing: Verdict::Warn,
    follows: "names that containers ask for while the agent is restarted are asked again, not waited for",
    fix: "run Linux 5.6 or later",
};

fn judge(probe: &Probe, descriptors: Result<(), String>) -> Vec<Finding> {
    let on_vxlan = |tried: &Option<Result<(), String>>, feature| match tried {
        Some(tried) => finding(feature, tried),
        None => Finding::unchecked(FEATURE, "it cannot be tried without a VXLAN device")
            .about(feature.name),
    };
    vec![
        finding(&VXLAN, &probe.vxlan),
        on_vxlan(&probe.macvlan, &MACVLAN),
        on_vxlan(&probe.ipv6, &IPV6),
        finding(&NF_TABLES, &probe.nf_tables),
        match &probe.nf_tables {
            Ok(()) => finding(&OWNED_TABLE, &probe.owned_table),
            Err(_) => Finding::unchecked(FEATURE, "it cannot be tried without nf_tables")
                .about(OWNED_TABLE.name),
        },
        finding(&STRICT_DUMPS, &probe.strict_dumps),
        finding(&PIDFD_GETFD, &descriptors),
    ]
}

fn finding(feature: &Feature, tried: &Result<(), String>) -> Finding {
    let Feature { name, missing, follows, fix } = feature;
    match tried {
        Ok(()) => Finding::ok(FEATURE, format!("the kernel has {name}")).about(*name),
        Err(said) => {
            let found = Finding::fail(FEATURE, format!("the kernel lacks {name}: {follows}"));
            let found = Finding { verdict: *missing, ..found };
            found.about(*name).seen(format!("tried, and the kernel said: {said}")).mend(*fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Only, settings::Settings};
    use super::*;

    fn all_there() -> Probe {
        Probe {
            vxlan: Ok(()),
            macvlan: Some(Ok(())),
            ipv6: Some(Ok(())),
            nf_tables: Ok(()),
            owned_table: Ok(()),
            strict_dumps: Ok(()),
        }
    }

    fn no() -> Result<(), String> {
        Err("operation not supported".into())
    }

    /// The subjects that are not fine, with their verdicts.
    fn told(probe: &Probe, descriptors: Result<(), String>) -> Vec<(String, Verdict)> {
        let findings = judge(probe, descriptors);
        assert_eq!(findings.len(), 7);
        let amiss = findings.into_iter().filter(|finding| finding.verdict != Verdict::Ok);
        amiss.map(|finding| (finding.subject.unwrap(), finding.verdict)).collect()
    }

    #[test]
    fn each_missing_feature_is_told_once_and_not_what_hangs_on_it() {
        let (warn, fail, unchecked) = (Verdict::Warn, Verdict::Fail, Verdict::Unchecked);
        let fine = all_there();
        for (probe, expected) in [
            (fine.clone(), &[][..]),
            (
                Probe { vxlan: no(), macvlan: None, ipv6: None, ..fine.clone() },
                &[("vxlan", fail), ("macvlan", unchecked), ("ipv6", unchecked)],
            ),
            (Probe { macvlan: Some(no()), ..fine.clone() }, &[("macvlan", fail)]),
            (Probe { ipv6: Some(no()), ..fine.clone() }, &[("ipv6", warn)]),
            (
                Probe { nf_tables: no(), owned_table: no(), ..fine.clone() },
                &[("nf_tables", warn), ("nf_tables-owner", unchecked)],
            ),
            (Probe { owned_table: no(), ..fine.clone() }, &[("nf_tables-owner", warn)]),
            (Probe { strict_dumps: no(), ..fine.clone() }, &[("strict-dumps", warn)]),
        ] {
            let expected: Vec<_> =
                expected.iter().map(|(name, verdict)| ((*name).to_owned(), *verdict)).collect();
            assert_eq!(told(&probe, Ok(())), expected);
        }
        assert_eq!(told(&fine, no()), [("pidfd_getfd".to_owned(), warn)]);
    }

    #[tokio::test]
    async fn this_kernel_has_them_all() {
        let settings = Settings { config: Err(Vec::new()), token: None };
        let host = Host::without_agent(settings, None, Only::all());
        let findings = look(host).await;
        assert_eq!(findings.len(), 7, "{findings:?}");
        assert!(findings.iter().all(|f| f.verdict == Verdict::Ok), "{findings:?}");
    }
}
