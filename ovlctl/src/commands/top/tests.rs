//! Readings to rows, keys to views, and the screen as a user sees it.
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ovl_agent::control::api::counters::{Counters, Device, Passed};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use serde_json::json;

use super::draw::{Theme, draw};
use super::model::{Model, Sample};
use super::view::{EndpointOrder, HostOrder, NetworkOrder, Next, Pane, View};

/// A device that has passed so many bytes each way, in packets of 100.
fn device(name: &str, vni: Option<u32>, rx: u64, tx: u64, dropped: u64) -> Device {
    let passed = |bytes, dropped| Passed { packets: bytes / 100, bytes, errors: 0, dropped };
    let (rx, tx) = (passed(rx, dropped), passed(tx, 0));
    Device { device: name.to_owned(), vni, network: None, rx, tx }
}

fn counters(seconds: u64, devices: Vec<Device>) -> Counters {
    Counters { host: "bee-1".to_owned(), at_micros: seconds * 1_000_000, devices }
}

/// Three hosts, two networks, three endpoints, one of them elsewhere.
fn sample(counters: Counters) -> Sample {
    let endpoint = |network: &str, name: &str, host: &str, last: u8| {
        json!({"network": network, "name": name, "names": [name, "www"],
               "ipv4": format!("10.64.0.{last}"), "mac": "02:42:0a:40:00:02", "host": host})
    };
    let network = |name: &str, vni: u32| json!({"name": name, "vni": vni, "subnet": "10.64.0.0/16", "mtu": 1450});
    let member = |name: &str, last: u8, state: &str| json!({"name": name, "address": format!("192.168.77.{last}"), "state": state});
    Sample {
        status: serde_json::from_value(json!({
            "version": "0.1.0", "node": "bee-1", "address": "192.168.77.11", "uptime_seconds": 75,
            "store": {"url": "sqlite:///x", "error": null},
            "members": {"alive": 2, "suspect": 0, "down": 1, "left": 0}, "networks": 2,
            "endpoints": {"local": 2, "total": 3, "held": 0},
            "dataplane": {"repaired": 0, "errors": []}, "docker": "connected",
            "problems": ["bee-3 does not answer: look at it"]
        }))
        .unwrap(),
        members: serde_json::from_value(json!([
            member("bee-3", 13, "down"),
            member("bee-1", 11, "alive"),
            member("蜂-2", 12, "alive")
        ]))
        .unwrap(),
        networks: serde_json::from_value(json!([network("web", 1001), network("db", 1002)]))
            .unwrap(),
        endpoints: serde_json::from_value(json!([
            endpoint("web", "anna", "bee-1", 3),
            endpoint("db", "bert", "bee-1", 2),
            endpoint("web", "carl", "蜂-2", 4),
        ]))
        .unwrap(),
        counters: Ok(counters),
    }
}

fn devices(rx: u64, tx: u64, dropped: u64) -> Vec<Device> {
    vec![
        device("eth1", None, 10 * rx, 10 * tx, 0),
        device("ovl-1001", Some(1001), rx, tx, dropped),
        device("ovl-1002", Some(1002), 0, 0, 0),
    ]
}

/// After two readings two seconds apart.
fn model() -> Model {
    let mut model = Model::default();
    model.handle_sample(sample(counters(10, devices(1_000, 2_000, 3))));
    model.handle_sample(sample(counters(12, devices(2_001_000, 6_000, 7))));
    model
}

#[test]
fn rates_are_what_grew_by_the_time_between_two_readings() {
    let networks = model().networks(NetworkOrder::Name);
    let names: Vec<&str> = networks.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["eth1", "db", "web"], "the underlay, and the networks by name");
    let web = &networks[2];
    let rate = web.rate.unwrap();
    assert_eq!((rate.rx_bytes, rate.tx_bytes), (1e6, 2e3));
    assert_eq!((rate.rx_packets, rate.tx_packets, rate.drops), (1e4, 20.0, 2.0));
    assert_eq!((web.endpoints_here, web.endpoints, web.drops), (1, 2, 7));
    assert_eq!(networks[1].rate.unwrap().rx_bytes, 0.0);
}

#[test]
fn one_reading_gives_no_rates_and_nothing_runs_backwards() {
    let rates = |model: &Model| -> Vec<bool> {
        model.networks(NetworkOrder::Name).iter().map(|row| row.rate.is_some()).collect()
    };
    let mut fresh = Model::default();
    fresh.handle_sample(sample(counters(10, devices(1, 1, 0))));
    assert_eq!(rates(&fresh), [false, false, false]);
    // The agent was restarted: its clock begins again.
    let mut restarted = model();
    restarted.handle_sample(sample(counters(1, devices(3_000_000, 9_000, 7))));
    assert_eq!(rates(&restarted), [false, false, false]);
    restarted.handle_sample(sample(counters(2, devices(3_000_000, 9_000, 7))));
    assert_eq!(rates(&restarted), [true, true, true]);
    // The network's device was made anew.
    let mut anew = model();
    let mut devices = devices(5_000_000, 9_000, 7);
    devices[1] = device("ovl-1001", Some(1001), 5, 5, 0);
    anew.handle_sample(sample(counters(13, devices)));
    assert_eq!(rates(&anew), [true, true, false]);
    // Twice the same reading.
    let mut twice = model();
    twice.handle_sample(sample(counters(12, super::tests::devices(1, 1, 0))));
    assert_eq!(rates(&twice), [false, false, false]);
}

#[test]
fn each_order_puts_first_what_is_looked_for() {
    let mut model = model();
    let pings = json!([{"host": "蜂-2", "address": "192.168.77.12", "state": "alive",
                        "underlay": {"sent": 1, "received": 1, "avg_us": 312},
                        "vxlan": {"sent": 1, "received": 1}}]);
    model.handle_pings(serde_json::from_value(pings).unwrap());
    let first_host = |order| model.hosts(order)[0].name.clone();
    assert_eq!(first_host(HostOrder::Name), "bee-1");
    assert_eq!(first_host(HostOrder::State), "bee-3");
    assert_eq!(first_host(HostOrder::RoundTrip), "蜂-2");
    assert_eq!(first_host(HostOrder::Endpoints), "bee-1");
    let first_network = |order| model.networks(order)[1].name.clone();
    assert_eq!(first_network(NetworkOrder::Name), "db");
    for order in
        [NetworkOrder::Received, NetworkOrder::Sent, NetworkOrder::Drops, NetworkOrder::Endpoints]
    {
        assert_eq!(first_network(order), "web", "{order:?}");
    }
    let first_endpoint = |order| model.endpoints(order)[0].name.clone();
    assert_eq!(first_endpoint(EndpointOrder::Name), "anna");
    assert_eq!(first_endpoint(EndpointOrder::Network), "bert");
    assert_eq!(first_endpoint(EndpointOrder::Address), "bert");
    assert_eq!(model.endpoints(EndpointOrder::Name).len(), 2, "of this host alone");
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

#[test]
fn keys_choose_panes_rows_and_orders() {
    let mut view = View::default();
    let mut press = |code| view.handle_key(key(code));
    for code in [KeyCode::Tab, KeyCode::Right, KeyCode::Char('s'), KeyCode::Char('s')] {
        assert_eq!(press(code), Next::GoOn);
    }
    assert_eq!((view.pane, view.networks), (Pane::Networks, NetworkOrder::Sent));
    view.handle_key(key(KeyCode::BackTab));
    view.handle_key(key(KeyCode::Left));
    assert_eq!(view.pane, Pane::Hosts);
    view.handle_key(key(KeyCode::Left));
    assert_eq!(view.pane, Pane::Endpoints);
    view.handle_key(key(KeyCode::Down));
    view.handle_key(key(KeyCode::End));
    assert_eq!(view.row(Pane::Endpoints, 3), 2);
    view.handle_key(key(KeyCode::Up));
    assert_eq!(view.row(Pane::Endpoints, 3), 1);
    assert_eq!(view.row(Pane::Endpoints, 0), 0, "rows may go");
    assert_eq!(view.row(Pane::Hosts, 3), 0);
    view.handle_key(key(KeyCode::Char('p')));
    assert!(view.paused);
    view.handle_key(key(KeyCode::Char('p')));
    assert!(!view.paused);
    view.handle_key(key(KeyCode::Char('?')));
    assert!(view.help);
    assert_eq!(view.handle_key(key(KeyCode::Char('x'))), Next::GoOn, "any key takes it away");
    assert!(!view.help);
    assert_eq!(view.handle_key(key(KeyCode::Char('q'))), Next::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.handle_key(control_c), Next::Quit);
    assert_eq!(view.handle_key(key(KeyCode::Char('c'))), Next::GoOn);
    // What a terminal sends for a zero byte.
    view.handle_key(KeyEvent::new(KeyCode::Char(' '), KeyModifiers::CONTROL));
    assert!(!view.paused);
}

/// The screen's lines, without spaces at their ends.
fn shown(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let text = terminal.backend().to_string();
    let lines = text.lines().map(|line| line.trim_matches('"').trim_end().to_owned());
    lines.collect()
}

fn screen(
    width: u16,
    height: u16,
    model: &Model,
    view: &mut View,
    colour: bool,
) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, view, Theme { colour })).unwrap();
    terminal
}

#[test]
fn all_of_it_is_seen_in_80_columns_and_24_lines() {
    let lines = shown(&screen(80, 24, &model(), &mut View::default(), false));
    assert_eq!(lines.len(), 24);
    let has = |parts: &[&str]| {
        let found = lines.iter().any(|line| {
            let mut rest = line.as_str();
            parts.iter().all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
        });
        assert!(found, "no line with {parts:?} in:\n{}", lines.join("\n"));
    };
    has(&["ovl bee-1 (192.168.77.11), agent 0.1.0, up 1 min 15 s"]);
    has(&["hosts: 2 of 3 alive, by name", "problems: 1"]);
    has(&["bee-1", "192.168.77.11", "alive", "-", "2 "]);
    has(&["- bee-3 does not answer:"]);
    has(&["蜂-2", "192.168.77.12", "alive"]);
    has(&["bee-3", "192.168.77.13", "down"]);
    has(&["networks: 2, by name"]);
    has(&["NETWORK", "HERE/ALL", "IN B/s", "OUT B/s", "IN pkt/s", "OUT pkt/s", "DROPS"]);
    has(&["eth1 (underlay)", "10.0 M", "20.0 k"]);
    has(&["web", "1/2", "1.00 M", "2.00 k", "10.0 k", "20", "7"]);
    has(&["endpoints of this host: 2, by name"]);
    has(&["anna", "web", "10.64.0.3", "www"]);
    has(&["q quit"]);
}

#[test]
fn every_size_is_drawn_and_a_small_one_says_so() {
    let model = model();
    for (width, height) in [(1, 1), (10, 3), (39, 24), (80, 11), (40, 12), (60, 15), (300, 100)] {
        for help in [false, true] {
            let mut view = View::default();
            view.help = help;
            let lines = shown(&screen(width, height, &model, &mut view, true)).join(" ");
            if width >= 10 && (width < 40 || height < 12) {
                assert!(lines.contains("terminal"), "{width}×{height}: {lines}");
            }
        }
    }
}

#[test]
fn names_of_wide_letters_keep_the_columns() {
    let terminal = screen(80, 24, &model(), &mut View::default(), false);
    let buffer = terminal.backend().buffer();
    // Where the address begins in the row of a name, in cells of the screen.
    let address = |name: &str| {
        let cells = |y: u16| (0..80).map(move |x| buffer[(x, y)].symbol()).collect::<Vec<_>>();
        let row = (0..24).map(cells).find(|row| row[0].starts_with(name));
        row.and_then(|row| row.windows(3).position(|three| three == ["1", "9", "2"]))
    };
    assert_eq!(address("b"), Some(15));
    assert_eq!(address("蜂"), Some(15));
}

#[test]
fn colours_are_there_only_where_they_are_wanted() {
    let coloured = |colour| {
        let terminal = screen(80, 24, &model(), &mut View::default(), colour);
        let cells = terminal.backend().buffer().content().to_vec();
        cells.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    assert!(coloured(true) > 0);
    assert_eq!(coloured(false), 0);
}

#[test]
fn an_agent_that_is_away_is_told_and_what_it_said_last_stays() {
    let mut model = Model::default();
    model.handle_away("no agent answers on /x\u{1b}[2J".to_owned());
    let lines = shown(&screen(120, 24, &model, &mut View::default(), false));
    assert!(lines[0].contains("no agent answers on /x [2J"), "{}", lines[0]);
    let mut model = self::model();
    model.handle_away("gone".to_owned());
    let terminal = screen(120, 24, &model, &mut View::default(), false);
    let lines = shown(&terminal);
    assert!(lines[0].contains("AWAY") && lines[0].contains("gone"), "{}", lines[0]);
    assert!(lines.join("\n").contains("anna"));
    let dim = |cell: &&ratatui::buffer::Cell| cell.modifier.contains(Modifier::DIM);
    assert!(terminal.backend().buffer().content().iter().filter(dim).count() > 500);
    // It is back.
    model.handle_sample(sample(counters(20, devices(3_000_000, 9_000, 7))));
    let lines = shown(&screen(120, 24, &model, &mut View::default(), false));
    assert!(!lines[0].contains("AWAY"), "{}", lines[0]);
}

#[test]
fn an_agent_without_counters_says_so_among_the_problems() {
    let mut model = Model::default();
    let old =
        Sample { counters: Err("no such path".to_owned()), ..sample(counters(0, Vec::new())) };
    model.handle_sample(old);
    assert!(model.problems().iter().any(|problem| problem.contains("no rates: no such path")));
    assert_eq!(model.networks(NetworkOrder::Name).len(), 2);
}

#[test]
fn absurd_names_and_numbers_are_drawn_within_their_columns() {
    let evil = format!("\u{1b}[31m\u{9b}2J\u{202e}{}", "x".repeat(100_000));
    let passed = |n| Passed { packets: n, bytes: n, errors: n, dropped: n };
    let reading = |seconds, n| {
        let device = Device {
            device: evil.clone(),
            vni: Some(7),
            network: None,
            rx: passed(n),
            tx: passed(n),
        };
        let mut sample = sample(counters(seconds, vec![device]));
        sample.status.uptime_seconds = u64::MAX;
        sample.status.node = evil.clone();
        sample.status.problems = vec![evil.clone()];
        sample.members.iter_mut().for_each(|member| member.name = evil.clone());
        sample.networks.iter_mut().for_each(|network| network.name = evil.clone());
        for endpoint in &mut sample.endpoints {
            (endpoint.name, endpoint.host) = (evil.clone(), evil.clone());
        }
        sample
    };
    let mut model = Model::default();
    model.handle_sample(reading(1, 0));
    model.handle_sample(reading(2, u64::MAX));
    model.handle_away(evil.clone());
    let lines = shown(&screen(80, 24, &model, &mut View::default(), false));
    assert!(!lines.join("").contains(|c: char| c.is_control() || c == '\u{202e}'), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("networks: ")), "{lines:?}");
}

#[test]
fn help_and_pause_are_seen() {
    let mut view = View::default();
    (view.help, view.paused) = (true, true);
    let text = shown(&screen(80, 24, &model(), &mut view, false)).join("\n");
    assert!(text.contains("another pane") && text.contains("PAUSED"), "{text}");
}
