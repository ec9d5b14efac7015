//! Who answers a request, by its path.
//!
//! KV is asked thousands of times for every other request, so its requests take the short way, past
//! the router of the others.

use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::service::Routes;

use super::Api;
use crate::proto::etcdserverpb::kv_server::KvServer;

/// Every service of one member, ready to be served.
#[derive(Clone)]
pub struct Services {
    kv: KvServer<Api>,
    others: Routes,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    pub(super) fn new(kv: KvServer<Api>, others: Routes) -> Self {
        Self { kv, others }
    }

    /// Serves one more of them.
    #[must_use]
    pub fn and(mut self, add: impl FnOnce(Routes) -> Routes) -> Self {
        self.others = add(self.others).prepare();
        self
    }
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // KV is always ready.
        Service::<Request<Body>>::poll_ready(&mut self.others, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_for(<KvServer<Api> as NamedService>::NAME, request.uri().path()) {
            self.kv.call(request)
        } else {
            Box::pin(self.others.call(request))
        }
    }
}

/// The path is `/service/method`.
fn is_for(service: &str, path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(service))
        .is_some_and(|method| method.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_service_itself_are_its_own() {
        assert!(is_for("a.KV", "/a.KV/Put"));
        assert!(!is_for("a.KV", "/a.KVs/Put"));
        assert!(!is_for("a.KV", "a.KV/Put"));
        assert!(!is_for("a.KV", "/a.KV"));
    }
}
