//! Which function answers which request.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};

use super::{
    access, bans, clients,
    counts::Counts,
    dashboard, events,
    gate::{Gate, Refused},
    health::{healthz, readyz},
    listeners, messages,
    metrics::metrics,
    openapi,
    panel::Panel,
    problem::Problem,
    slow, steering, subscriptions, topics, traces,
};
use crate::runtime;

/// All routes, behind the gate.
pub(super) fn router(panel: Panel, gate: Arc<Gate>) -> Router {
    let entrance = (gate, Arc::clone(panel.counts()));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/api/v1/access", get(access::get))
        .route("/api/v1/clients", get(clients::list))
        .route("/api/v1/clients/{id}", get(clients::get).delete(clients::kick))
        .route("/api/v1/clients/{id}/subscriptions", get(subscriptions::list))
        .route("/api/v1/subscriptions", get(subscriptions::list_all))
        .route("/api/v1/listeners", get(listeners::list))
        .route("/api/v1/sessions/{id}", delete(clients::end_session))
        .route("/api/v1/publish", post(messages::publish))
        .route("/api/v1/retained", get(messages::list_retained))
        .route(
            "/api/v1/retained/{topic}",
            get(messages::get_retained).delete(messages::delete_retained),
        )
        .route("/api/v1/topics", get(topics::list))
        .route("/api/v1/bans", get(bans::list).post(bans::create))
        .route("/api/v1/bans/{id}", delete(bans::delete))
        .route("/api/v1/slow-subscribers", get(slow::list))
        .route("/api/v1/traces", get(traces::list).post(traces::create))
        .route("/api/v1/traces/{id}", delete(traces::delete))
        .route("/api/v1/traces/{id}/stream", get(traces::stream))
        .route("/api/v1/events", get(events::stream))
        .route("/api/v1/config", get(steering::get_config))
        .route("/api/v1/reload", post(steering::reload))
        .route("/api/v1/log", get(steering::get_log).put(steering::set_log))
        .merge(dashboard::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(entrance, pass))
        .with_state(panel)
}

/// Lets a request through the gate, and gives each answer the fields that all have.
async fn pass(
    State((gate, counts)): State<(Arc<Gate>, Arc<Counts>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match gate.admit(&request, runtime::now()) {
        Ok(bearer) => {
            request.extensions_mut().insert(bearer);
            next.run(request).await
        }
        Err(Refused { reason, problem }) => {
            counts.note_refusal(reason);
            problem.into_response()
        }
    };
    counts.note_answer(response.status());
    for (name, value) in FIELDS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn unknown(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not for {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

const FIELDS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];
