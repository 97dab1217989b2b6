//! The tests of this module: the table, single messages, and real sockets in real namespaces.
mod answer;
mod embedded;
mod forwarding;
mod line;
mod names;
mod netns;
mod sandbox;
mod upstream;
