//! Access control: requests need the token and a `Host` header with the server's own name.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::connections::Connection;

/// What a request must contain.
pub struct Guard {
    hosts: [String; 2],
    token: String,
}

impl Guard {
    /// Creates the guard of a server at an address, with a token.
    #[must_use]
    pub fn new(address: SocketAddr, token: String) -> Arc<Self> {
        let port = address.port();
        Arc::new(Self { hosts: [format!("127.0.0.1:{port}"), format!("localhost:{port}")], token })
    }

    /// Checks the `Host` header, against DNS rebinding: a foreign site can make its own name resolve to our address, so
    /// that a browser lets its pages read our answers. The browser still sends the site's name.
    fn knows_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        host.is_some_and(|host| self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host)))
    }

    /// Checks the token, in constant time.
    fn knows_token(&self, path: &str) -> bool {
        let token = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        token.as_bytes().ct_eq(self.token.as_bytes()).into()
    }
}

/// Rejects requests without the right host and token, and adds security headers to every response.
pub async fn guard_request(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let is_known = guard.knows_host(request.headers()) && guard.knows_token(request.uri().path());
    if is_known && let Some(connection) = request.extensions().get::<Connection>() {
        connection.mark_authenticated();
    }
    let mut response = if !guard.knows_host(request.headers()) {
        let says = "Unknown host name in the request: open the address that `replay serve` printed.\n";
        (StatusCode::MISDIRECTED_REQUEST, says).into_response()
    } else if is_known {
        next.run(request).await
    } else {
        let says = "The token is missing or wrong: open the address that `replay serve` printed.\n";
        (StatusCode::FORBIDDEN, says).into_response()
    };
    let rules = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in rules {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if !is_known {
        // Rejected clients get no more answers on this connection.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.headers_mut().insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}
