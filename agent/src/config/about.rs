//! The name of each key and the words about it, for help and for messages.
use super::key::Key;

/// What people are told about a key.
#[derive(Debug)]
pub struct About {
    /// Its name in the file; with `--` before it, the flag.
    pub name: &'static str,
    /// Stands for the value in usage lines.
    pub value: &'static str,
    /// One line, for `-h`.
    pub help: &'static str,
    /// What `--help` adds to that line: units, effects, how to choose.
    pub more: &'static str,
    /// What a value must be, to follow the word "expected".
    pub expected: &'static str,
    /// A value as one might set it, for the example file and the reference.
    pub example: &'static str,
    /// Whether `ovlctl reload` takes a change at once. False: it takes a restart.
    pub reload: bool,
}

impl Key {
    /// What people are told about it.
    pub const fn about(self) -> &'static About {
        match self {
            Key::NodeName => &NODE_NAME,
            Key::Advertise => &ADVERTISE,
            Key::Join => &JOIN,
            Key::Store => &STORE,
            Key::GossipPort => &GOSSIP_PORT,
            Key::VxlanPort => &VXLAN_PORT,
            Key::VniRange => &VNI_RANGE,
            Key::DefaultPool => &DEFAULT_POOL,
            Key::StateDir => &STATE_DIR,
            Key::ControlSocket => &CONTROL_SOCKET,
            Key::ControlGroup => &CONTROL_GROUP,
            Key::AnswerPeers => &ANSWER_PEERS,
            Key::MetricsAddress => &METRICS_ADDRESS,
            Key::PluginSocket => &PLUGIN_SOCKET,
            Key::DockerHost => &DOCKER_HOST,
            Key::DockerScope => &DOCKER_SCOPE,
            Key::ResolvConf => &RESOLV_CONF,
            Key::Log => &LOG,
        }
    }
}

const NODE_NAME: About = About {
    name: "node-name",
    value: "NAME",
    help: "This host's name in the cluster",
    more: "No other host may have it, and it should not change while endpoints run here.",
    expected: "1 to 63 letters, digits, `_`, `.` or `-`, with a letter or digit first",
    example: "queenbee",
    reload: false,
};

const ADVERTISE: About = About {
    name: "advertise",
    value: "ADDRESS|INTERFACE|auto",
    help: "Where other hosts reach this one, with gossip and with VXLAN",
    more: "An IPv4 address of this host, the name of an interface whose first IPv4 address is \
           taken, or `auto`: the address of the interface with the default route.",
    expected: "an IPv4 address of this host, the name of an interface, or `auto`",
    example: "eth1",
    reload: false,
};

const JOIN: About = About {
    name: "join",
    value: "HOST[:PORT]",
    help: "Hosts to join the cluster by; repeat it, or separate by commas",
    more: "Any members will do, two or three of them are enough, and this host itself may be \
           among them: one list fits all hosts. Without a port the gossip port is taken. They are \
           asked again for ever, so that a split cluster heals.",
    expected: "host names or IPv4 addresses, each with an optional `:PORT`, separated by commas",
    example: "10.132.0.11,10.132.0.12",
    reload: true,
};

const STORE: About = About {
    name: "store",
    value: "URL",
    help: "The registry of networks and addresses that all hosts share",
    more: "`consul://HOST:PORT` (or `consul+https://`) for a cluster; \
           `?token-file=PATH&ca-file=PATH` may follow; the token's file must be owned by root or \
           the agent's user, and closed to others (mode 0600). `sqlite:///PATH` is a file that \
           several agents on one machine may share. All hosts of a cluster must name the same \
           registry.",
    expected: "`consul://HOST:PORT`, `consul+https://HOST:PORT` or `sqlite:///PATH`",
    example: "consul://10.132.0.2:8500",
    reload: false,
};

const GOSSIP_PORT: About = About {
    name: "gossip-port",
    value: "PORT",
    help: "UDP and TCP port of the gossip between hosts",
    more: "Open it between all hosts, UDP and TCP.",
    expected: "a port, 1 to 65535",
    example: "7947",
    reload: false,
};

const VXLAN_PORT: About = About {
    name: "vxlan-port",
    value: "PORT",
    help: "UDP port of VXLAN between hosts",
    more: "The same on every host of a cluster. 4789 is the one of RFC 7348; choose another one \
           where a hypervisor's own VXLAN swallows it.",
    expected: "a port, 1 to 65535",
    example: "8472",
    reload: false,
};

const VNI_RANGE: About = About {
    name: "vni-range",
    value: "FIRST-LAST",
    help: "VXLAN network identifiers that new networks get",
    more: "24-bit numbers. Keep clear of those that others on these hosts use: Docker's classic \
           overlay counts from 256, Swarm from 4096.",
    expected: "two VNIs as `FIRST-LAST`, each 1 to 16777214, the lower one first",
    example: "100000-199999",
    reload: true,
};

const DEFAULT_POOL: About = About {
    name: "default-pool",
    value: "SUBNET",
    help: "Where the subnets of networks come from that are made without one",
    more: "A subnet in CIDR form that no host and no other service uses.",
    expected: "an IPv4 subnet from /8 to /30 in CIDR form, like 10.64.0.0/10, with no host bits",
    example: "10.96.0.0/12",
    reload: true,
};

const STATE_DIR: About = About {
    name: "state-dir",
    value: "DIR",
    help: "What the agent remembers across restarts",
    more: "Made if missing. Must survive restarts of the agent; not shared between agents.",
    expected: "an absolute path",
    example: "/srv/ovl",
    reload: false,
};

const CONTROL_SOCKET: About = About {
    name: "control-socket",
    value: "PATH",
    help: "Unix socket on which ovlctl reaches this agent",
    more: "Its directory is made if missing. ovlctl reads the same variable.",
    expected: "an absolute path of at most 107 bytes",
    example: "/run/ovl/second.sock",
    reload: false,
};

const CONTROL_GROUP: About = About {
    name: "control-group",
    value: "GROUP",
    help: "Group whose members may read with ovlctl, and change nothing",
    more: "A name or a number. The control socket is then open for this group (root:GROUP, mode \
           0660), and only root may change anything over it. Without a group only root may use it \
           at all (mode 0600). Needs CAP_CHOWN, or a process in that group.",
    expected: "the name or the number of a group of this host",
    example: "ovl",
    reload: false,
};

const ANSWER_PEERS: About = About {
    name: "answer-peers",
    value: "WHAT",
    help: "What agents of other hosts may ask of this one: all, read or none",
    more: "`read`: how it is, what it knows, what the ways between the hosts and between two \
           endpoints are like, and to put its kernel right; `ovlctl doctor`, `ping` and `trace` on the \
           other host need it. `all`: also captures, which show what passes between this host and \
           others. Nobody changes networks, endpoints or the agent from another host. Who is a \
           member is known by its address alone.",
    expected: "`all`, `read` or `none`",
    example: "all",
    reload: true,
};

const METRICS_ADDRESS: About = About {
    name: "metrics-address",
    value: "IP:PORT",
    help: "Where Prometheus gets metrics: http://IP:PORT/metrics",
    more: "An IPv4 address, or an IPv6 one in brackets, and a TCP port. Off unless set. Whoever reaches \
           the port may read, so name an address between the hosts, or 127.0.0.1 behind a proxy. The \
           control socket has the same metrics at /v1/metrics.",
    expected: "an IP address and a port, such as 10.132.0.11:9646 or [fd00::11]:9646",
    example: "10.132.0.11:9646",
    reload: true,
};

const PLUGIN_SOCKET: About = About {
    name: "plugin-socket",
    value: "PATH",
    help: "Unix socket on which Docker finds the plugin",
    more: "The file's name without `.sock` is the driver's name in `docker network create -d`. \
           Docker looks into /run/docker/plugins.",
    expected: "an absolute path of at most 107 bytes",
    example: "/run/docker/plugins/overlay2.sock",
    reload: false,
};

const DOCKER_HOST: About = About {
    name: "docker-host",
    value: "URL",
    help: "Docker's engine, from which the names of containers come",
    more: "A host without Docker may leave it alone: the agent waits for it quietly.",
    expected: "`unix:///PATH`",
    example: "unix:///run/user/1000/docker.sock",
    reload: false,
};

const DOCKER_SCOPE: About = About {
    name: "docker-scope",
    value: "SCOPE",
    help: "Who shows a network to the Docker of other hosts: the agents (local) or Docker (global)",
    more: "Docker up to 20.10 with --cluster-store shares networks by itself; auto finds that out. \
           dockerd asks once in its life: restart it after a change.",
    expected: "`auto`, `local` or `global`",
    example: "local",
    reload: false,
};

const RESOLV_CONF: About = About {
    name: "resolv-conf",
    value: "PATH",
    help: "Resolvers for all names that are not of an overlay network",
    more: "A file in resolv.conf(5) form; read again when it changes.",
    expected: "an absolute path",
    example: "/run/systemd/resolve/resolv.conf",
    reload: true,
};

const LOG: About = About {
    name: "log",
    value: "FILTER",
    help: "What to log",
    more: "A level (off, error, warn, info, debug, trace), and if need be others for parts of \
           the program: `info,ovl_gossip=debug`. It goes to standard error; in a service of \
           systemd to journald, each value as a field (OVL_NETWORK=…).",
    expected: "a level (off, error, warn, info, debug, trace), and `PART=LEVEL`, separated by \
               commas",
    example: "info,ovl_gossip=debug",
    reload: true,
};
