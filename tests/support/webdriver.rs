//! Debian's chromium, driven through chromedriver by the W3C's protocol: JSON over HTTP.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

/// A browser with one window. It waits for what it is to find.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    pub(crate) fn open() -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium-driver is not installed, please run scripts/test.sh");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port =
            lines.find_map(|line| port_of(&line.unwrap())).expect("it says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Browser { driver, port, session: String::new() };
        let options = json!({ "args": [
            // In a container there is no sandbox, and the pages are our own.
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--window-size=1280,900",
        ]});
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "implicit": 15_000, "script": 15_000 },
        }}});
        let session = browser.ask("POST", "/session", &wanted).unwrap();
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        browser
    }

    pub(crate) fn go(&self, url: &str) {
        self.order("/url", &json!({ "url": url }));
    }

    /// The value of an expression of the page, with `arguments[0]` and so on.
    pub(crate) fn value(&self, expression: &str, arguments: &[&str]) -> Value {
        let script = format!("return {expression};");
        self.order("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Waits until there is an element that this path in the document leads to.
    #[track_caller]
    pub(crate) fn find(&self, xpath: &str) -> Element {
        let found = self.try_order("/element", &json!({ "using": "xpath", "value": xpath }));
        let Ok(found) = found else { panic!("{xpath} is not in\n{}", self.visible()) };
        Element(found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned())
    }

    /// Waits until what stands in a field begins like this.
    #[track_caller]
    pub(crate) fn find_value(&self, xpath: &str, start: &str) {
        let script = "const [path, start, done] = arguments; \
                      const look = () => { \
                        const field = document.evaluate(path, document).iterateNext(); \
                        if (field?.value.startsWith(start)) done(true); \
                        else requestAnimationFrame(look); \
                      }; look();";
        let asked = json!({ "script": script, "args": [xpath, start] });
        let found = self.try_order("/execute/async", &asked);
        assert_eq!(found, Ok(Value::Bool(true)), "{xpath}");
    }

    #[track_caller]
    pub(crate) fn click(&self, xpath: &str) {
        self.to_element(xpath, "click", &json!({}));
    }

    #[track_caller]
    pub(crate) fn write(&self, xpath: &str, text: &str) {
        self.to_element(xpath, "clear", &json!({}));
        self.to_element(xpath, "value", &json!({ "text": text }));
    }

    /// A page may replace an element between the search and the order.
    #[track_caller]
    fn to_element(&self, xpath: &str, order: &str, parameters: &Value) {
        let mut last = String::new();
        for _ in 0..ATTEMPTS_MAX {
            let Element(id) = self.find(xpath);
            match self.try_order(&format!("/element/{id}/{order}"), parameters) {
                Ok(_) => return,
                Err(error) => last = error,
            }
        }
        panic!("{order} {xpath}: {last}\n{}", self.visible());
    }

    /// The text of the page as it is seen.
    pub(crate) fn visible(&self) -> String {
        self.value("document.body.innerText", &[]).as_str().unwrap_or_default().to_owned()
    }

    /// What the console of the browser has from the page since the last call.
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.order("/se/log", &json!({ "type": "browser" }));
        let words = |entry: &Value| format!("{} {}", entry["level"], entry["message"]);
        entries.as_array().unwrap().iter().map(words).collect()
    }

    #[track_caller]
    fn order(&self, path: &str, parameters: &Value) -> Value {
        self.try_order(path, parameters).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn try_order(&self, path: &str, parameters: &Value) -> Result<Value, String> {
        self.ask("POST", &format!("{}{path}", self.session), parameters)
    }

    fn ask(&self, method: &str, path: &str, parameters: &Value) -> Result<Value, String> {
        let body = parameters.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let (status, body) = read(&mut BufReader::new(stream));
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        let value = answer["value"].take();
        if status.contains(" 200 ") { Ok(value) } else { Err(value["message"].to_string()) }
    }
}

/// An answer: its first line and its body. The driver keeps the connection open.
fn read(stream: &mut impl BufRead) -> (String, String) {
    let (mut status, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            _ if status.is_empty() => line.clone_into(&mut status),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

/// An element that was found.
pub(crate) struct Element(String);

/// The browser ends with its session.
impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.ask("DELETE", &self.session.clone(), &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn port_of(line: &str) -> Option<u16> {
    let (_, port) = line.split_once("started successfully on port ")?;
    port.trim_end_matches('.').parse().ok()
}

const ATTEMPTS_MAX: usize = 5;
