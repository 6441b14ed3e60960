//! The dashboard: pages for a browser, which ask the API for all that they show.
//!
//! The files are part of the program, so that it works without any other and offline. They hold
//! nothing that is secret, and are given to everybody who reaches the address: a browser has no
//! token before it has the page that asks for one.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

use super::problem::Problem;

/// The page itself.
pub(super) const PAGE: &str = "/";
/// What the paths of its other files begin with.
const FOLDER: &str = "/dashboard/";

/// One file, as it is sent.
struct File {
    /// Below the folder.
    name: &'static str,
    text: &'static str,
}

/// Files of the folder `dashboard`.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(File { name: $name, text: include_str!(concat!("dashboard/", $name)) }),*]
    };
}

const INDEX: &str = include_str!("dashboard/index.html");
const FILES: &[File] = files![
    "api.js",
    "app.js",
    "chart.js",
    "dialog.js",
    "dom.js",
    "format.js",
    "icon.svg",
    "layout.css",
    "metrics.js",
    "mqtt.js",
    "pages/bans.js",
    "pages/client.js",
    "pages/clients.js",
    "pages/drops.js",
    "pages/events.js",
    "pages/listeners.js",
    "pages/overview.js",
    "pages/retained.js",
    "pages/subscriptions.js",
    "pages/trial.js",
    "parts.css",
    "reasons.js",
    "table.js",
];

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route(PAGE, get(page)).route("/dashboard/{*name}", get(file))
}

/// Whether a path is of the dashboard, and so needs no token.
pub(super) fn has(path: &str) -> bool {
    path == PAGE || path.starts_with(FOLDER)
}

async fn page(fields: HeaderMap) -> Response {
    answer("index.html", INDEX, &fields)
}

async fn file(Path(name): Path<String>, fields: HeaderMap) -> Result<Response, Problem> {
    let found = FILES.iter().find(|file| file.name == name);
    let unknown = || Problem::not_found(format!("there is nothing at {FOLDER}{name}"));
    found.map(|file| answer(file.name, file.text, &fields)).ok_or_else(unknown)
}

/// The whole text, or that what the browser has is still right.
fn answer(name: &str, text: &'static str, fields: &HeaderMap) -> Response {
    let known = fields.get(header::IF_NONE_MATCH).is_some_and(|known| known == *TAG);
    let mut response =
        if known { StatusCode::NOT_MODIFIED.into_response() } else { text.into_response() };
    let answered = response.headers_mut();
    answered.insert(header::ETAG, TAG.clone());
    for (name, value) in [
        (header::CONTENT_TYPE, kind_of(name)),
        // To be kept, and asked for anew each time.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        answered.insert(name, HeaderValue::from_static(value));
    }
    answered.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// One tag for all files: they change together, with the program.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut digest = Sha256::new_with_prefix(INDEX);
    for File { name, text } in FILES {
        digest.update(name);
        digest.update(text);
    }
    let hash = digest.finalize();
    let short = hash.first_chunk().copied().map_or(0, u64::from_be_bytes);
    HeaderValue::from_str(&format!("\"{short:016x}\"")).expect("hexadecimal digits fit a field")
});

/// Nothing but our own files. What clients send can be text only: with trusted types there is no
/// way to make markup or code of it. The client that speaks MQTT reaches the listeners of the
/// broker, which have other ports.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn found_in(folder: &Path, prefix: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let names = entries.flat_map(|entry| {
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                found_in(&entry.path(), &format!("{name}/"))
            } else {
                BTreeSet::from([name])
            }
        });
        names.collect()
    }

    #[test]
    fn each_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control/dashboard");
        let mut served: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        served.insert("index.html".to_owned());
        assert_eq!(found_in(&folder, ""), served);
    }

    /// All that the files load is served.
    #[test]
    fn files_name_no_others_than_those_that_are_served() {
        let names: BTreeSet<&str> = FILES.iter().map(|file| file.name).collect();
        for File { name, text } in FILES {
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            for import in text.split(" from '").skip(1) {
                let import = import.split('\'').next().unwrap();
                let target = match import.strip_prefix("../") {
                    Some(rest) if folder == "pages" => rest.to_owned(),
                    _ => format!("{folder}/{}", import.strip_prefix("./").unwrap()),
                };
                assert!(names.contains(target.trim_start_matches('/')), "{name}: {import}");
            }
        }
        for link in INDEX.split("\"/dashboard/").skip(1) {
            let name = link.split('"').next().unwrap();
            assert!(names.contains(name), "{name}");
        }
    }

    /// A page is made of elements and texts, never of markup.
    #[test]
    fn no_file_makes_markup_or_code_of_text() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "srcdoc",
            "http://",
            "https://",
            "setAttribute('style'",
            " style=",
            " onclick=",
            "localStorage",
            "document.cookie",
        ];
        for File { name, text } in FILES.iter().chain([&File { name: "index.html", text: INDEX }]) {
            let text = text.replace("http://www.w3.org/", "");
            for word in forbidden {
                assert!(!text.contains(word), "{name}: {word}");
            }
        }
    }
}
