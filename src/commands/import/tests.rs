//! Configurations in the style of those that are published, and what becomes of them.

use std::{env, fs, path::PathBuf, process};

use super::*;
use crate::config::check_text;

/// A folder that is removed with all its files.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = env::temp_dir().join(format!("ringmq-import-{}-{name}", process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The TOML without its comments, and the remarks without their folder.
fn imported(name: &str, text: &str) -> (String, Vec<String>) {
    let folder = Folder::new(name);
    let Imported { toml, remarks } = import(&folder.write("m.conf", text)).unwrap();
    assert_eq!(check_text(&toml), Ok(()), "{toml}");
    let start = format!("{}/", folder.0.display());
    let remarks = remarks.iter().map(|remark| remark.to_string().replace(&start, "")).collect();
    let lines = toml.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n"));
    (lines.collect(), remarks)
}

#[test]
fn a_small_home_broker() {
    let text = "# home\npersistence true\npersistence_location /var/lib/mosquitto/\n\
                log_dest file /var/log/mosquitto.log\nlog_type error\nlog_type warning\n\
                listener 1883\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n\
                acl_file /etc/mosquitto/acl\nmax_queued_messages 0\nmax_inflight_messages 20\n";
    let (toml, remarks) = imported("home", text);
    let expected = "\n[access]\nacl-file = \"/etc/mosquitto/acl\"\n\
                    password-file = \"/etc/mosquitto/passwd\"\n\n[limits]\nmax-inflight = 20\n\
                    max-queued = 268435456\n\n[log]\nlog = \"warn\"\n\n[[listener]]\n\
                    address = \"[::]:1883\"\nprotocol = \"mqtt\"\nallow-anonymous = false\n";
    assert_eq!(toml, expected);
    let lines: Vec<&str> = remarks.iter().map(|it| it.split_once(": ").unwrap().0).collect();
    assert_eq!(lines, ["m.conf:2", "m.conf:3", "m.conf:4"]);
    assert!(remarks[0].contains("persistence true: name a folder of its own in `data-dir`"));
    assert!(remarks[2].contains("log_dest file /var/log/mosquitto.log: the log goes to"));
}

#[test]
fn several_listeners_with_rules_of_their_own() {
    let text = "per_listener_settings true\nlistener 1883 127.0.0.1\nallow_anonymous true\n\
                listener 9001\nprotocol websockets\nallow_anonymous false\nmax_connections 100\n\
                listener 8883 ::1\ncertfile /c.pem\nkeyfile /k.pem\ntls_version tlsv1.2\n\
                listener 0 /run/m.sock\nlistener 1884 broker.example\nlistener 8084\n\
                protocol websockets\ncertfile /c.pem\n";
    let (toml, remarks) = imported("listeners", text);
    for table in [
        "address = \"127.0.0.1:1883\"\nprotocol = \"mqtt\"\nallow-anonymous = true\n",
        "address = \"[::]:9001\"\nprotocol = \"websocket\"\nallow-anonymous = false\n",
        "address = \"[::1]:8883\"\nprotocol = \"mqtts\"\nallow-anonymous = false\n",
        "address = \"[::]:8084\"\nprotocol = \"websocket-tls\"\nallow-anonymous = false\n",
        "address = \"/run/m.sock\"\nprotocol = \"mqtt\"\n",
        "tls-cert = \"/c.pem\"\ntls-key = \"/k.pem\"\ntls-min = \"1.2\"\n",
    ] {
        assert!(toml.contains(table), "{toml}");
    }
    assert_eq!(toml.matches("[[listener]]").count(), 5);
    let expected = ["m.conf:13: listener: no name is looked up: write the address"];
    assert_eq!(remarks, expected);
}

#[test]
fn listeners_for_proxies() {
    let text = "listener 1883\nenable_proxy_protocol 2\nproxy_protocol_v2_require_tls true\n\
                require_certificate true\nuse_identity_as_username true\n\
                listener 0 /run/m.sock\nenable_proxy_protocol 1\nlistener 1884\n\
                enable_proxy_protocol 3\n";
    let (toml, remarks) = imported("proxies", text);
    for table in [
        "address = \"[::]:1883\"\nprotocol = \"mqtt\"\nallow-anonymous = false\n\
         proxy-protocol = true\n",
        "address = \"/run/m.sock\"\nprotocol = \"mqtt\"\nallow-anonymous = false\n\
         proxy-protocol = true\n",
        "[network]\nproxy-user-from-cn = true\n",
    ] {
        assert!(toml.contains(table), "{toml}");
    }
    assert_eq!(toml.matches("proxy-protocol").count(), 2, "{toml}");
    let expected = [
        "m.conf:2: enable_proxy_protocol 2: headers are taken from the proxies in `proxy-from` \
         only: name their networks",
        "m.conf:3: proxy_protocol_v2_require_tls true: let the proxy take TLS only",
        "m.conf:4: require_certificate true: let the proxy ask for certificates",
        "m.conf:9: enable_proxy_protocol 3: there is no such version",
    ];
    assert_eq!(remarks, expected);
}

#[test]
fn a_bridge_with_included_files() {
    let folder = Folder::new("bridge");
    let include = folder.0.join("conf.d");
    folder.write("conf.d/b.conf", "connection up\naddress broker.example\ntopic # both 0\n");
    folder.write("conf.d/a.conf", "sys_interval 30\nremote_password secret\nmax_keepalive 60\n");
    folder.write("conf.d/c.txt", "port 7\n");
    let text = format!(
        "pid_file /run/m.pid\ninclude_dir {}\nretain_available false\nmystery 1\n\
         persistent_client_expiration 14d\nmessage_size_limit 100\nmax_qos 9x\n",
        include.display()
    );
    let Imported { toml, remarks } = import(&folder.write("m.conf", &text)).unwrap();
    assert_eq!(check_text(&toml), Ok(()), "{toml}");
    for key in [
        "sys-interval = 30",
        "max-keep-alive = 60",
        "disable = [\"retain\"]",
        "session-expiry-max = 1209600",
        "max-packet-size = 65636",
        "address = \"127.0.0.1:1883\"\nprotocol = \"mqtt\"\nallow-anonymous = true",
    ] {
        assert!(toml.contains(&format!("\n{key}\n")), "{key}: {toml}");
    }
    let said: Vec<String> = remarks.iter().map(ToString::to_string).collect();
    let has = |words: &str| said.iter().any(|line| line.contains(words));
    assert!(has("conf.d/b.conf:1: connection up: there are no bridges"), "{said:?}");
    assert!(has("conf.d/a.conf:2: remote_password ...: there are no bridges"), "{said:?}");
    assert!(has("m.conf:4: mystery 1: mosquitto has no such directive"), "{said:?}");
    assert!(has("m.conf:7: max_qos 9x: the value is not a number"), "{said:?}");
    assert_eq!(remarks.len(), 7, "{said:?}");
    assert!(toml.contains("# What was not taken over:") && !toml.contains("secret"));
    assert!(import(&folder.0.join("none.conf")).is_err());
}
