//! The document that describes the API, for programs.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

pub(super) async fn document() -> Response {
    let mut response = DOCUMENT.into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// The methods of each path, as the routes say.
    fn routed() -> BTreeSet<(String, String)> {
        let source = include_str!("routes.rs").replace(char::is_whitespace, "");
        let mut found = BTreeSet::new();
        for route in source.split(".route(\"").skip(1) {
            let (path, rest) = route.split_once('"').unwrap();
            let methods = rest.split(".route(").next().unwrap();
            for method in ["get", "post", "put", "delete"] {
                if methods.split(&format!("{method}(")).count() > 1 {
                    found.insert((path.to_owned(), method.to_owned()));
                }
            }
        }
        found
    }

    #[test]
    fn the_document_has_the_routes_and_no_others() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert((path.clone(), method.clone()));
            }
        }
        assert_eq!(described, routed());
    }

    /// Each reference leads somewhere.
    #[test]
    fn the_document_is_whole() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        for reference in DOCUMENT.split("\"$ref\": \"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
