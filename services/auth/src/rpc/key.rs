//! `KeyService`: admins look at the signing keys, and change them out of turn.

use std::sync::Arc;

use flaghoist_proto::auth::v1::key_service_server::KeyService;
use flaghoist_proto::auth::v1::{
    self as pb, ListKeysRequest, ListKeysResponse, RevokeKeyRequest, RevokeKeyResponse, RotateKeysRequest,
    RotateKeysResponse,
};
use flaghoist_runtime::fault::{Fault, check};
use tonic::{Request, Response, Status};

use super::{origin_of, time, to_the_end};
use crate::algorithm::Algorithm;
use crate::error::{DOMAIN, Error};
use crate::issuer::Issuer;
use crate::key::{KeyChange, KeyState, SigningKey, active, key_name, next, reserve};
use crate::moment::Moment;

/// The signing keys.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) trusted_hops: u8,
}

impl Keys {
    /// The keys on the wire: the signing one, those that wait, those that retire, each by its age.
    fn messages(&self, keys: &[SigningKey], now: Moment) -> Vec<pb::SigningKey> {
        let order = |state: KeyState| match state {
            KeyState::Active => 0,
            KeyState::Pending => 1,
            KeyState::Retiring | KeyState::Gone => 2,
        };
        let mut keys: Vec<_> = keys.iter().filter(|key| key.state(now) != KeyState::Gone).collect();
        keys.sort_by_key(|key| (order(key.state(now)), key.algorithm, key.published_at, &key.kid));
        let all: Vec<_> = keys.iter().map(|key| (*key).clone()).collect();
        all.iter().map(|key| self.message(key, &all, now)).collect()
    }

    fn message(&self, key: &SigningKey, all: &[SigningKey], now: Moment) -> pb::SigningKey {
        let times = self.issuer.keyring.times();
        let reserve = reserve(all, key.algorithm, times, now);
        let state = match key.state(now) {
            KeyState::Pending => pb::KeyState::Pending,
            KeyState::Active => pb::KeyState::Active,
            KeyState::Retiring | KeyState::Gone => pb::KeyState::Retiring,
        };
        let may_sign_at = key.published_at.plus(times.ready_after());
        pb::SigningKey {
            name: key_name(&key.kid),
            state: state.into(),
            reserve: reserve.is_some_and(|reserve| reserve.kid == key.kid),
            algorithm: key.algorithm.name().into(),
            publish_time: Some(time(key.published_at)),
            activate_time: Some(time(key.activate_at.unwrap_or(may_sign_at))),
            retire_time: key.retire_at.or(key.due_at(times)).map(time),
            remove_time: key.remove_at.map(time),
            sealed_with: key.sealed.with.clone(),
        }
    }
}

#[tonic::async_trait]
impl KeyService for Keys {
    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let keys = self.issuer.keyring.keys().await.map_err(Error::from)?;
        Ok(Response::new(ListKeysResponse { keys: self.messages(&keys, self.issuer.clock.now()) }))
    }

    async fn rotate_keys(&self, request: Request<RotateKeysRequest>) -> Result<Response<RotateKeysResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let by = origin_of(&self.issuer, &request, self.trusted_hops);
        let (issuer, now) = (self.issuer.clone(), by.at);
        let keys = to_the_end(async move { issuer.change_keys(&KeyChange::Rotate, &by).await }).await?;
        let times = self.issuer.keyring.times();
        let follows = next(&keys, Algorithm::EdDsa, times, now);
        let next = follows.map(|(key, _)| self.message(key, &keys, now));
        let take_over_time = follows.map(|(_, at)| time(at));
        Ok(Response::new(RotateKeysResponse { next, take_over_time }))
    }

    async fn revoke_key(&self, request: Request<RevokeKeyRequest>) -> Result<Response<RevokeKeyResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let by = origin_of(&self.issuer, &request, self.trusted_hops);
        let RevokeKeyRequest { name, force } = request.into_inner();
        let kid = name.strip_prefix("keys/").filter(|kid| !kid.is_empty() && !kid.contains('/'));
        let kid = kid.ok_or_else(|| Fault::invalid("name", "is not a name like keys/{kid}").into_status(DOMAIN))?;
        let known = self.issuer.keyring.keys().await.map_err(Error::from)?;
        let algorithm = known.iter().find(|key| key.kid == kid).map_or(Algorithm::EdDsa, |key| key.algorithm);
        let change = KeyChange::Revoke { kid: kid.to_owned(), force };
        let (issuer, now) = (self.issuer.clone(), by.at);
        let keys = to_the_end(async move { issuer.change_keys(&change, &by).await }).await?;
        let active = active(&keys, algorithm, now).map(|key| self.message(key, &keys, now));
        Ok(Response::new(RevokeKeyResponse { active }))
    }
}
