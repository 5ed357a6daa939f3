//! The access rules of the contracts, enforced: who may call which method is looked up in the table that is made from the protos.

use std::sync::Arc;

use tower_layer::Layer;

use crate::token::Verifier;

/// Enforces the access rules around a set of routes.
#[derive(Clone, Debug)]
pub struct AccessLayer {
    verifier: Arc<Verifier>,
}

impl AccessLayer {
    /// The rules of the public port.
    pub fn public(verifier: Arc<Verifier>) -> Self {
        Self { verifier }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access { inner, verifier: Arc::clone(&self.verifier) }
    }
}

/// Routes behind the access rules.
#[derive(Clone, Debug)]
pub struct Access<S> {
    inner: S,
    verifier: Arc<Verifier>,
}
