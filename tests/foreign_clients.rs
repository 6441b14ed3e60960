//! Clients that others wrote, against ringmq on one, two and four shards.
//!
//! Each drives a broker of its own through the same scenarios, in every version of MQTT that it
//! speaks, and through what only 5.0 has, as far as it lets us. Debian's mosquitto is the control:
//! what a script asks of ringmq, a broker in wide use does as well; where it does not, the script
//! says why. `scripts/test.sh` installs the clients and mosquitto. `foreign_tls` has the
//! same over TLS.

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "other tests start it without flags")]
mod broker;
#[path = "foreign/dialects.rs"]
mod dialects;
#[path = "foreign/peer.rs"]
mod peer;
#[path = "foreign/rumqttc_client.rs"]
mod rumqttc_client;
#[path = "foreign/script.rs"]
mod script;

use broker::Broker;
use script::Script;

/// [MQTT-7.0.0-2@3.1.1]
#[test]
fn paho_mqtt_on_1_shard() {
    on_ringmq(1, paho_mqtt);
}

#[test]
fn paho_mqtt_on_2_shards() {
    on_ringmq(2, paho_mqtt);
}

#[test]
fn paho_mqtt_on_4_shards() {
    on_ringmq(4, paho_mqtt);
}

#[test]
fn paho_mqtt_on_mosquitto() {
    on(Broker::mosquitto(), paho_mqtt);
}

#[test]
fn mqttjs_on_1_shard() {
    on_ringmq(1, mqttjs);
}

#[test]
fn mqttjs_on_2_shards() {
    on_ringmq(2, mqttjs);
}

#[test]
fn mqttjs_on_4_shards() {
    on_ringmq(4, mqttjs);
}

#[test]
fn mqttjs_on_mosquitto() {
    on(Broker::mosquitto(), mqttjs);
}

#[test]
fn paho_mqtt_over_websocket_on_1_shard() {
    over_websocket_on_ringmq(1, paho_mqtt);
}

#[test]
fn paho_mqtt_over_websocket_on_2_shards() {
    over_websocket_on_ringmq(2, paho_mqtt);
}

#[test]
fn paho_mqtt_over_websocket_on_mosquitto() {
    on(Broker::mosquitto_with_websocket(), paho_mqtt);
}

/// It asks for Topic Aliases, and fails when it gets one.
#[test]
fn mqttjs_4_on_2_shards() {
    on(Broker::ringmq_with(2, &[]), mqttjs_4);
}

#[test]
fn mqttjs_over_websocket_on_1_shard() {
    over_websocket_on_ringmq(1, mqttjs);
}

#[test]
fn mqttjs_over_websocket_on_2_shards() {
    over_websocket_on_ringmq(2, mqttjs);
}

#[test]
fn mqttjs_over_websocket_on_mosquitto() {
    on(Broker::mosquitto_with_websocket(), mqttjs);
}

#[test]
fn gmqtt_on_1_shard() {
    on_ringmq(1, gmqtt);
}

#[test]
fn gmqtt_on_2_shards() {
    on_ringmq(2, gmqtt);
}

#[test]
fn gmqtt_on_4_shards() {
    on_ringmq(4, gmqtt);
}

#[test]
fn gmqtt_on_mosquitto() {
    on(Broker::mosquitto(), gmqtt);
}

/// [MQTT-7.0.0-2@3.1.1]
#[test]
fn mosquitto_clients_on_1_shard() {
    on_ringmq(1, mosquitto_clients);
}

#[test]
fn mosquitto_clients_on_2_shards() {
    on_ringmq(2, mosquitto_clients);
}

#[test]
fn mosquitto_clients_on_4_shards() {
    on_ringmq(4, mosquitto_clients);
}

#[test]
fn mosquitto_clients_on_mosquitto() {
    on(Broker::mosquitto(), mosquitto_clients);
}

#[test]
fn rumqttc_on_1_shard() {
    on_ringmq(1, rumqttc_client::drive);
}

#[test]
fn rumqttc_on_2_shards() {
    on_ringmq(2, rumqttc_client::drive);
}

#[test]
fn rumqttc_on_4_shards() {
    on_ringmq(4, rumqttc_client::drive);
}

#[test]
fn rumqttc_on_mosquitto() {
    on(Broker::mosquitto(), rumqttc_client::drive);
}

fn on_ringmq(shards: usize, drive: fn(&Broker)) {
    on(Broker::ringmq_with(shards, &FLAGS), drive);
}

/// Scripts take the listener for WebSocket where there is one.
fn over_websocket_on_ringmq(shards: usize, drive: fn(&Broker)) {
    on(Broker::ringmq_with_websocket(shards, &FLAGS), drive);
}

fn on(broker: Broker, drive: fn(&Broker)) {
    drive(&broker);
    broker.stop();
}

fn paho_mqtt(broker: &Broker) {
    Script { program: PYTHON, path: "tests/foreign/paho_client.py" }.passes(broker, 33 + 21);
}

fn mqttjs(broker: &Broker) {
    script::requires("target/foreign/node/node_modules/mqtt/package.json");
    Script { program: "node", path: "tests/foreign/mqttjs.mjs" }.passes(broker, 33 + 27);
}

fn mqttjs_4(broker: &Broker) {
    script::requires("target/foreign/node/node_modules/mqtt4/package.json");
    Script { program: "node", path: "tests/foreign/mqttjs4.mjs" }.passes(broker, 1);
}

fn gmqtt(broker: &Broker) {
    Script { program: PYTHON, path: "tests/foreign/gmqtt_client.py" }.passes(broker, 22 + 19);
}

fn mosquitto_clients(broker: &Broker) {
    script::requires("/usr/bin/mosquitto_sub");
    Script { program: "bash", path: "tests/foreign/mosquitto.sh" }.passes(broker, 33);
}

/// SCRAM for those who ask for it; everyone else comes in without. Topic Aliases for those who can
/// handle them.
const FLAGS: [&str; 5] = ["--scram-file", SCRAM_FILE, "--allow-anonymous", "--topic-aliases", "32"];
const PYTHON: &str = "target/foreign/venv/bin/python";
const SCRAM_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/scram-users.txt");
