//! `send` and `receiver` in memory: what they have of a person goes in steps, and they can be away.

use std::collections::HashMap;
use std::sync::Arc;

use flaghoist_proto::receiver::v1 as receiver;
use flaghoist_proto::receiver::v1::subject_service_server as receiver_server;
use flaghoist_proto::send::v1 as send;
use flaghoist_proto::send::v1::subject_service_server as send_server;
use flaghoist_runtime::local::Slot;
use futures_util::stream::{BoxStream, StreamExt as _, iter};
use parking_lot::Mutex;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::issuer::FakeIssuer;
use crate::others::Others;

/// How many messages a step takes.
const STEP: i64 = 10;

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeOthers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    send_down: bool,
    /// By the name of the person.
    devices: HashMap<String, i64>,
    messages: HashMap<String, i64>,
    steps: u32,
    late: HashMap<String, i64>,
}

impl FakeOthers {
    pub(super) fn peers(&self, issuer: &FakeIssuer) -> Others {
        let (receiver, send) = (Slot::new("receiver"), Slot::new("send"));
        receiver.fill(Routes::new(receiver_server::SubjectServiceServer::new(self.clone())));
        send.fill(Routes::new(send_server::SubjectServiceServer::new(self.clone())));
        Others::new(issuer.peer(), receiver.peer(), send.peer())
    }

    pub(super) fn set_send_down(&self, down: bool) {
        self.0.lock().send_down = down;
    }

    /// A person has so many devices and messages.
    pub(super) fn give(&self, user: &str, devices: i64, messages: i64) {
        let mut kept = self.0.lock();
        kept.devices.insert(user.into(), devices);
        kept.messages.insert(user.into(), messages);
    }

    /// So many messages come while a person is being erased.
    pub(super) fn give_late(&self, user: &str, messages: i64) {
        self.0.lock().late.insert(user.into(), messages);
    }

    /// How many devices and messages are left.
    pub(super) fn left(&self, user: &str) -> (i64, i64) {
        let kept = self.0.lock();
        (kept.devices.get(user).copied().unwrap_or(0), kept.messages.get(user).copied().unwrap_or(0))
    }

    pub(super) fn steps(&self) -> u32 {
        self.0.lock().steps
    }
}

#[tonic::async_trait]
impl receiver_server::SubjectService for FakeOthers {
    type ExportSubjectStream = BoxStream<'static, Result<receiver::ExportSubjectResponse, Status>>;

    async fn erase_subject(
        &self,
        request: Request<receiver::EraseSubjectRequest>,
    ) -> Result<Response<receiver::EraseSubjectResponse>, Status> {
        let request = request.into_inner();
        let devices = &mut self.0.lock().devices;
        let device_count = devices.get(&request.user).copied().unwrap_or(0);
        if !request.count_only {
            devices.remove(&request.user);
        }
        Ok(Response::new(receiver::EraseSubjectResponse { device_count }))
    }

    async fn export_subject(
        &self,
        _request: Request<receiver::ExportSubjectRequest>,
    ) -> Result<Response<Self::ExportSubjectStream>, Status> {
        let piece = receiver::ExportSubjectResponse { file: "devices".into(), lines: vec!["{\"device\":1}".into()] };
        Ok(Response::new(iter([Ok(piece)]).boxed()))
    }
}

#[tonic::async_trait]
impl send_server::SubjectService for FakeOthers {
    type ExportSubjectStream = BoxStream<'static, Result<send::ExportSubjectResponse, Status>>;

    /// As `send` does it: a step depends on its place alone.
    async fn erase_subject(
        &self,
        request: Request<send::EraseSubjectRequest>,
    ) -> Result<Response<send::EraseSubjectResponse>, Status> {
        let request = request.into_inner();
        let mut kept = self.0.lock();
        if kept.send_down {
            return Err(Status::unavailable("away"));
        }
        kept.steps += 1;
        if request.again {
            let message_count = kept.late.remove(&request.user).unwrap_or(0);
            return Ok(Response::new(send::EraseSubjectResponse { message_count, ..Default::default() }));
        }
        let at: i64 = request.step_token.parse().unwrap_or(0);
        let all = 35;
        let message_count = STEP.min(all - at);
        let left = kept.messages.entry(request.user).or_default();
        *left = (*left).min(all - at - message_count);
        let next = if at + STEP < all { (at + STEP).to_string() } else { String::new() };
        Ok(Response::new(send::EraseSubjectResponse { next_step_token: next, message_count, conversation_count: 0 }))
    }

    async fn export_subject(
        &self,
        _request: Request<send::ExportSubjectRequest>,
    ) -> Result<Response<Self::ExportSubjectStream>, Status> {
        if self.0.lock().send_down {
            return Err(Status::unavailable("away"));
        }
        // More than fits into a few pieces.
        let pieces = (0..500).map(|number| {
            let lines = (0..100).map(|line| format!("{{\"text\":\"message {number} {line}\"}}")).collect();
            Ok(send::ExportSubjectResponse { file: "messages".into(), lines })
        });
        Ok(Response::new(iter(pieces).boxed()))
    }
}
