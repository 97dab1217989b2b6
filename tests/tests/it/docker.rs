//! Two real dockerds, each in a host of a lab, and what a user of Docker does with `-d ovl`.
//!
//! One theme a file, one promise a test. `OVL_TEST_DOCKER` names the Docker; `scripts/test-docker`
//! runs them with several.
mod addresses;
mod compose;
mod dns;
mod doctor;
mod leftovers;
mod load;
mod names;
mod networks;
mod outside;
mod restarts;
mod rig;
mod scope;
