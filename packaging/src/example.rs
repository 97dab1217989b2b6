//! The configuration that a package brings: every key with its words, all commented out.
use ovl_agent::config::Key;

use crate::words::{toml_value, wrap};

const HEAD: &str = "\
# Settings of ovl-agent, in TOML. All are commented out: the default holds. Each line without a
# space behind its `#` is an example. Flags win over OVL_* variables, and those over this file.
#
#   ovl-agent --check-config        says what is wrong, and changes nothing
#   systemctl reload ovl-agent      takes what can be taken at once, and names the rest
#   systemctl restart ovl-agent     takes everything; containers do not notice
#
# Secrets do not belong here: Consul's token goes into /etc/ovl/agent.env, mode 0600, as
# CONSUL_HTTP_TOKEN=TOKEN, or into a file of its own that `store` names by token-file.
";

/// The file.
pub(crate) fn text() -> String {
    let mut text = HEAD.to_owned();
    for key in Key::ALL {
        text.push('\n');
        text.push_str(&entry(key));
    }
    text
}

fn entry(key: Key) -> String {
    let about = key.about();
    let default = key.default_in_words();
    let change = if about.reload { "a reload" } else { "a restart" };
    let mut entry = wrap(&format!("{}. {}", about.help, about.more), "# ");
    entry.push_str(&wrap(&format!("Expected: {}.", about.expected), "# "));
    entry.push_str(&wrap(&format!("Default: {default}. A change takes {change}."), "# "));
    entry.push_str(&format!("#{} = {}\n", key.name(), toml_value(key, about.example)));
    entry
}
