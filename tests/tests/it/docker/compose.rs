//! Compose: a leader on one host, followers that join it by name on another.
use std::fs;

use ovl_tests::docker::REDIS_IMAGE;
use ovl_tests::exec;

use super::rig::{BACK, NET, Rig};
use crate::support::{eventually, holds};

const LEADER: &str = r#"
version: "3.5"
services:
  leader:
    image: redis
    container_name: rethinkleader
    restart: always
    command: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --save, "",
              --repl-diskless-sync-delay, "0"]
    networks: [rethinkdb]
networks:
  rethinkdb:
    name: rethinkdb
    driver: ovl
    ipam:
      driver: ovl
"#;

const FOLLOWER: &str = r#"
version: "3.5"
services:
  follower:
    image: redis
    restart: always
    command: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --save, "",
              --replicaof, rethinkleader, "6379"]
    networks: [rethinkdb]
networks:
  rethinkdb:
    name: rethinkdb
    external: true
"#;

#[test]
fn followers_on_another_host_join_their_leader() {
    let rig = Rig::up("compose");
    for docker in &rig.dockers {
        docker.import_redis().unwrap_or_else(|error| panic!("{error}"));
    }
    compose(&rig, 0, LEADER, &["up", "-d"]);
    rig.lists(1, NET);
    compose(&rig, 1, FOLLOWER, &["up", "-d", "--scale", "follower=3"]);
    eventually("three followers at the leader", BACK, || {
        let argv = ["redis-cli", "info", "replication"];
        let info = rig.exec(0, "rethinkleader", &argv).stdout;
        holds(info.contains("connected_slaves:3"), info)
    });
    rig.ok(0, &["exec", "rethinkleader", "redis-cli", "set", "greeting", "hello"]);
    let followers = rig.ok(1, &["ps", "-q", "--filter", &format!("ancestor={REDIS_IMAGE}")]);
    assert_eq!(followers.lines().count(), 3, "{followers}");
    for follower in followers.lines() {
        eventually("the write at a follower", BACK, || {
            let read = rig.exec(1, follower, &["redis-cli", "get", "greeting"]).stdout;
            holds(read.trim() == "hello", read)
        });
    }
    compose(&rig, 1, FOLLOWER, &["down", "-t", "1"]);
    // The network is the first project's: it goes with it.
    compose(&rig, 0, LEADER, &["down", "-t", "1"]);
    for at in [0, 1] {
        rig.lists_no(at, NET);
    }
}

fn compose(rig: &Rig, at: usize, project: &str, args: &[&str]) {
    let file = rig.hosts[at].folder().join("docker-compose.yml");
    fs::write(&file, project).unwrap();
    let mut command = rig.dockers[at].program("docker-compose");
    command.arg("--file").arg(&file).args(["--project-name", "hive"]).args(args);
    exec::run(&mut command, BACK).unwrap().require().unwrap_or_else(|error| panic!("{error}"));
}
